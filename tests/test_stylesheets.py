"""What every page keeps: a colour for what can be acted on, few sizes, borders or shadows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "asyncsite/static/asyncsite/site.css"
APP = ROOT / "notifications/static/notifications/notifications.css"
TOKENS = APP.with_name("tokens.css")
#: The style sheets of the app besides.
PARTS = [APP.with_name("initial.css"), APP.with_name("pages.css")]
both = pytest.mark.parametrize("sheet", [SITE, APP], ids=["site", "app"])


def read_sheets(sheet):
    """Return the text of the style sheet of the site, or of all of the app."""
    return "".join(part.read_text() for part in ([APP, *PARTS] if sheet == APP else [sheet]))


def rules(sheet):
    """(selector, declarations) of every innermost block."""
    text = re.sub(r"/\*.*?\*/", "", read_sheets(sheet), flags=re.S)
    return re.findall(r"([^{};]+)\{([^{}]*)\}", text)


def colours(sheet, name):
    """The light and the dark value of a custom property, each as red, green and blue of at most 255."""
    text = (SITE if sheet == SITE else TOKENS).read_text()
    value = re.search(rf"--{name}: ([^;]+);", text)[1]
    if mix := re.fullmatch(r"color-mix\(in srgb, var\(--text\) (\d+)%, var\(--surface\)\)", value):
        share = int(mix[1]) / 100
        pairs = zip(colours(sheet, "text"), colours(sheet, "surface"), strict=True)
        return [[share * a + (1 - share) * b for a, b in zip(*pair, strict=True)] for pair in pairs]
    hexes = re.search(r"light-dark\(#(\w{6}), #(\w{6})\)", value).groups()
    return [[int(each[at : at + 2], 16) for at in (0, 2, 4)] for each in hexes]


def luminance(colour):
    """Relative luminance, WCAG 2."""
    parts = [part / 255 for part in colour]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


#: Pairs of tokens, and the contrast that they have at least: 4.5 for text, 3 for a drawing or the border of a field.
CONTRASTS = [
    *((name, "surface", 4.5) for name in ("text", "muted", "accent", "ok", "warn", "bad")),
    ("muted", "raised", 4.5),
    ("on-accent", "accent", 4.5),
    ("bar", "surface", 3),
    ("field", "surface", 3),
]


@both
@pytest.mark.parametrize(("front", "back", "least"), CONTRASTS)
def test_contrast_in_light_and_dark(sheet, front, back, least):
    for pair in zip(colours(sheet, front), colours(sheet, back), strict=True):
        dark, light = sorted(map(luminance, pair))
        assert (light + 0.05) / (dark + 0.05) >= least


def test_colors_and_corners_of_the_app_are_tokens():
    """So that a project changes them all by eleven properties."""
    text = re.sub(r"/\*.*?\*/", "", read_sheets(APP), flags=re.S)
    assert not re.findall(r"(?<![\w-])#[0-9a-f]{3,8}\b(?!\w)|light-dark", text)
    corners = re.findall(r"border-radius: ([^;]+);", text)
    assert set(corners) <= {"var(--radius)", "var(--round)", "50%", "1em", "1em / calc(1em + 6px)", "4px"}
    assert len(re.findall(r"var\(--notifications-", TOKENS.read_text())) == 12  # the font has two defaults


@both
def test_bars_are_no_accent(sheet):
    """A bar cannot be clicked and is not unread."""
    bars = [body for selector, body in rules(sheet) if re.search(r"\.bar\b|\bprogress$", selector.strip())]
    drawn = [body for body in bars if re.search(r"\b(fill|accent-color): var", body)]
    assert drawn and all("var(--bar)" in body and "var(--accent)" not in body for body in drawn)


@both
def test_at_most_four_sizes_of_text(sheet):
    """Of both sheets together the same four. The count at the corner of the bell and initials are smaller."""
    text = read_sheets(sheet)
    named = dict(re.findall(r"--(small|large|huge): ([\d.]+rem)", SITE.read_text()))
    sizes = re.findall(r"font-size: ([^;]+);", text) + re.findall(r"font: (?:\d+ )?([^\s/;]+)/", text)
    sizes = {named.get(re.sub(r"var\(--(\w+)\)", r"\1", size), size) for size in sizes} - {
        "inherit",
        "0.6875rem",
    }
    assert sizes <= {"0.875rem", "1rem", "1.25rem", "1.75rem"}


@both
def test_nothing_has_both_a_border_and_a_shadow(sheet):
    """One of them sets a thing apart; the other is noise."""
    for selector, body in rules(sheet):
        assert not ("box-shadow:" in body and re.search(r"\bborder:", body)), selector
