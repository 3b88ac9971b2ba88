"""The comparison: each cell about another project has a source, or says that none was found."""

import re

from tests.docs.pages import DOCS, tables, without_code

PAGE = DOCS / "explanation/comparison.md"


def test_each_cell_has_its_source():
    """The first column names the row, the second is this app."""
    compared = [table for table in tables(PAGE) if table[0][1] == "this app"]
    assert len(compared) == 3
    assert [
        (row[0], project, cell)
        for header, _, *rows in compared
        for row in rows
        for project, cell in zip(header[2:], row[2:], strict=True)
        if cell != "unknown" and "[^" not in cell
    ] == []


def test_each_source_is_used_and_described():
    text = without_code(PAGE)
    described = re.findall(r"^\[\^([\w-]+)\]: ", text, re.M)
    used = set(re.findall(r"\[\^([\w-]+)\](?!:)", text))
    assert len(described) == len(set(described)) and set(described) == used
