"""What every page keeps: a colour for what can be acted on, few sizes, borders or shadows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "asyncsite/static/asyncsite/site.css"
APP = ROOT / "notifications/static/notifications/notifications.css"
both = pytest.mark.parametrize("sheet", [SITE, APP], ids=["site", "app"])


def rules(sheet):
    """(selector, declarations) of every innermost block."""
    text = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.S)
    return re.findall(r"([^{};]+)\{([^{}]*)\}", text)


def colours(sheet, name):
    """The light and the dark value of a custom property."""
    return re.search(rf"--{name}:.*?light-dark\((#\w{{6}}), (#\w{{6}})\)", sheet.read_text()).groups()


def luminance(colour):
    """Relative luminance, WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@both
def test_bars_stand_out_from_the_surface_in_light_and_dark(sheet):
    """3:1, what a drawing needs."""
    for bar, surface in zip(colours(sheet, "bar"), colours(sheet, "surface"), strict=True):
        dark, light = sorted(map(luminance, (bar, surface)))
        assert (light + 0.05) / (dark + 0.05) >= 3


@both
def test_bars_are_no_accent(sheet):
    """A bar cannot be clicked and is not unread."""
    bars = [body for selector, body in rules(sheet) if re.search(r"\.bar\b|\bprogress$", selector.strip())]
    drawn = [body for body in bars if re.search(r"\b(fill|accent-color): var", body)]
    assert drawn and all("var(--bar)" in body and "var(--accent)" not in body for body in drawn)


@both
def test_at_most_four_sizes_of_text(sheet):
    """Of both sheets together the same four."""
    text = sheet.read_text()
    named = dict(re.findall(r"--(small|large|huge): ([\d.]+rem)", SITE.read_text()))
    sizes = re.findall(r"font-size: ([^;]+);", text) + re.findall(r"font: (?:\d+ )?([^\s/;]+)/", text)
    sizes = {named.get(re.sub(r"var\(--(\w+)\)", r"\1", size), size) for size in sizes} - {"inherit"}
    assert sizes <= {"0.875rem", "1rem", "1.25rem", "1.75rem"}


@both
def test_nothing_has_both_a_border_and_a_shadow(sheet):
    """One of them sets a thing apart; the other is noise."""
    for selector, body in rules(sheet):
        assert not ("box-shadow:" in body and re.search(r"\bborder:", body)), selector
