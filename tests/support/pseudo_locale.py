"""A language for tests, under the code of Hebrew, which is written from right to left.

Every text of both packages is translated to itself with accents, 40 % longer and in brackets: "⟦Ŝàvé~~⟧". What a page
shows without brackets is not translated, and what has no room for the longer text is cut. Django's own texts are
Django's Hebrew ones.
"""

import gettext
import re
import struct
from ast import literal_eval
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = "he"
OPENING, CLOSING = "⟦", "⟧"
HEADER = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"
ACCENTS = str.maketrans("aceginorsuyzACEGINORSUYZ", "àçéĝîñöřšûýžÀÇÉĜÎÑÖŘŠÛÝŽ")
#: What a translation must keep: placeholders, percent signs and tags.
KEPT = re.compile(r"(%\(\w+\)\w|%%|\{\w*\}|<[^>]*>)")
WORD = re.compile(r"[A-Za-z]{2,}")
SHOWN_ATTRIBUTES = {
    "title",
    "alt",
    "placeholder",
    "aria-label",
    "data-label",
    "data-notifications-send",
    "data-done",
}
#: Elements whose content is data, code or nothing that people read.
SKIPPED_ELEMENTS = {"script", "style", "code", "pre", "textarea", "time", "kbd"}
VOID_ELEMENTS = {"meta", "link", "input", "br", "img", "hr", "path", "line", "rect", "circle", "option"}


def make_pseudo(text):
    """Return the pseudo translation of a text, with its placeholders, tags and surrounding space."""
    core = text.strip()
    start = text.index(core)
    parts = KEPT.split(core)
    accented = "".join(part if at % 2 else part.translate(ACCENTS) for at, part in enumerate(parts))
    padding = "~" * max(1, round(len(core) * 0.4))
    return f"{text[:start]}{OPENING}{accented} {padding}{CLOSING}{text[start + len(core) :]}"


def write_catalog(folder):
    """Write the catalog of the language below a folder for LOCALE_PATHS."""
    texts = {"": HEADER}
    for package in ("notifications", "asyncsite"):
        for key in read_keys(ROOT / package / "locale/de/LC_MESSAGES/django.mo"):
            plural = isinstance(key, tuple)
            original = key[0] if plural else key
            pseudo = make_pseudo(original.rpartition("\4")[2])
            if plural:
                texts[f"{original}\0{original}"] = f"{pseudo}\0{pseudo}"
            else:
                texts[original] = pseudo
    path = Path(folder) / CODE / "LC_MESSAGES/django.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_catalog(texts))
    return Path(folder)


def read_keys(path):
    """Return the originals of a .mo file but its header: texts, and tuples (text, form) of those with a plural."""
    with path.open("rb") as file:
        return [key for key in gettext.GNUTranslations(file)._catalog if key]


def encode_catalog(texts):
    """Return the content of a .mo file: https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html"""
    pairs = sorted((key.encode(), value.encode()) for key, value in texts.items())
    count, header_size = len(pairs), 28
    offset = header_size + 16 * count
    tables, strings = [], b""
    for column in (0, 1):
        for pair in pairs:
            tables.append(struct.pack("<II", len(pair[column]), offset + len(strings)))
            strings += pair[column] + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, count, header_size, header_size + 8 * count, 0, 0)
    return header + b"".join(tables) + strings


@cache
def read_django_texts():
    """Return a pattern of the English texts of Django, which not all of its languages translate."""
    folder = Path(django.__file__).parent
    catalogs = [
        *folder.glob("contrib/*/locale/en/LC_MESSAGES/django.po"),
        folder / "conf/locale/en/LC_MESSAGES/django.po",
    ]
    blocks = re.findall(
        r'^msgid(?:_plural)? ((?:".*"\n)+)', "".join(map(Path.read_text, catalogs)), re.MULTILINE
    )
    texts = {normalize("".join(map(literal_eval, block.splitlines()))) for block in blocks}
    placeholder = re.compile(r"%\(\w+\)\w|%\w|\{\w*\}")
    with_words = (placeholder.split(text) for text in texts if WORD.search(placeholder.sub("", text)))
    return re.compile("|".join(".*".join(map(re.escape, parts)) for parts in with_words))


def normalize(text):
    return " ".join(text.split())


def find_untranslated(html, allowed=()):
    """Return the texts and attributes of a page that have words outside of the brackets.

    ``allowed``
        Regular expressions of words that are data or the same in all languages.
    """
    collector = _Collector()
    collector.feed(html)
    known = read_django_texts()
    names = re.compile("|".join([r"https?://\S+", *allowed]))
    return [
        text
        for text in collector.texts
        if not known.fullmatch(text) and WORD.search(names.sub("", remove_brackets(text)))
    ]


def remove_brackets(text):
    """Return a text without what is in brackets, also in nested ones."""
    inner = re.compile(f"{OPENING}[^{OPENING}{CLOSING}]*{CLOSING}")
    while inner.search(text):
        text = inner.sub("", text)
    # A text that was shortened has lost its end.
    return re.sub(f"{OPENING}[^{CLOSING}]*…", "", text)


class _Collector(HTMLParser):
    """Collects the texts of a page, and its attributes that people see or hear."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self.open = []
        self.depth = 0

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)
        shown = [values[name] for name in SHOWN_ATTRIBUTES & values.keys()]
        if tag == "input" and values.get("type") in ("submit", "button"):
            shown.append(values.get("value", ""))
        self.texts += [text for value in shown if (text := normalize(value or ""))]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID_ELEMENTS:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if SKIPPED_ELEMENTS & set(self.open) or not (text := normalize(data)):
            return
        # A translation with elements in it begins in one text and ends in another.
        text = OPENING * self.depth + text
        self.depth = max(0, text.count(OPENING) - text.count(CLOSING)) if not text.endswith("…") else 0
        self.texts.append(text + CLOSING * self.depth)
