"""Read the pages of the documentation and the code blocks in them."""

import re

from tests.support.site import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([*DOCS.rglob("*.md"), README])


def section(page, heading):
    """Return the text below a heading of the second level."""
    return re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", (DOCS / page).read_text(), re.M | re.S)[1]


def code(page, heading):
    """Return the first block of code below a heading."""
    return re.search(r"^```\w+$\n(.*?)^```$", section(page, heading), re.M | re.S)[1]


def blocks(page, language):
    """Return the blocks of code of a page in a language."""
    return re.findall(rf"^```{language}$\n(.*?)^```$", page.read_text(), re.M | re.S)


def without_code(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
