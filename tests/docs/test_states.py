"""The docs agree with the states of a job and the changes between them."""

import re

from notifications.states import CHANGES, JobState
from tests.docs.pages import DOCS, PAGES, ROOT


def test_the_table_of_the_docs_has_the_changes():
    page = (DOCS / "explanation/architecture.md").read_text()
    table = re.search(r"^### States of a job$(.*?)^### ", page, re.M | re.S)[1]
    rows = re.findall(r"^\| (.+) \| ([a-z, -]+) \| ([a-z, ]+) \| `([a-z_.]+)` \|$", table, re.M)
    assert rows == [
        (change.what, ", ".join(change.before) or "-", ", ".join(change.after), change.module)
        for change in CHANGES
    ]


def test_the_docs_name_the_states():
    *others, last = JobState.values
    listed = ", ".join(f"`{state}`" for state in others) + f" or `{last}`"
    pages = [DOCS / "reference/protocol.md", DOCS / "reference/javascript.md"]
    assert [page.name for page in pages if listed not in page.read_text()] == []


def test_one_spelling():
    """The state is ``cancelled``, and so is every word about it, in the docs and in the texts of both packages."""
    texts = [*PAGES, ROOT / "CHANGELOG.md", *ROOT.glob("*/locale/de/LC_MESSAGES/django.po")]
    found = re.compile(r"\bcancel(?:ed|ing)\b", re.I)
    assert [str(path) for path in texts if found.search(path.read_text())] == []
