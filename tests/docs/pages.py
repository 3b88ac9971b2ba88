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


def blocks(page, language, heading=None):
    """Return the blocks of code in a language: of a page, or below one of its headings of the second level."""
    text = section(page, heading) if heading else page.read_text()
    return re.findall(rf"^```{language}$\n(.*?)^```$", text, re.M | re.S)


def tables(page):
    """Return the tables of a page, each a list of rows, and each row the list of its cells."""
    found = re.findall(r"^\|.*(?:\n\|.*)*", without_code(page), re.M)
    return [[split_row(line) for line in table.splitlines()] for table in found]


def split_row(line):
    """Return the cells of a row. As on GitHub, each bar without a backslash ends a cell, also one inside of code."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))]


def without_code(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
