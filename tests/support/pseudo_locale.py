"""A language for tests, under the code of Hebrew, which is written from right to left.

Every text of both packages is translated to itself with accents, 40 % longer and in brackets: "⟦Ŝàvé~~⟧". What a page
shows without brackets is not translated, and what has no room for the longer text is cut. Django's own texts are
Django's Hebrew ones.
"""

import gettext
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = "he"
OPENING, CLOSING = "⟦", "⟧"
HEADER = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"
ACCENTS = str.maketrans("aceginorsuyzACEGINORSUYZ", "àçéĝîñöřšûýžÀÇÉĜÎÑÖŘŠÛÝŽ")
#: What a translation must keep: placeholders, percent signs and tags.
KEPT = re.compile(r"(%\(\w+\)\w|%%|\{\w*\}|<[^>]*>)")


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
