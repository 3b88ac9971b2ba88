"""The docs agree with the states of a job and the changes between them."""

import re

from tests.docs.pages import PAGES, ROOT


def test_one_spelling():
    """The state is ``cancelled``, and so is every word about it, in the docs and in the texts of both packages."""
    texts = [*PAGES, ROOT / "CHANGELOG.md", *ROOT.glob("*/locale/de/LC_MESSAGES/django.po")]
    found = re.compile(r"\bcancel(?:ed|ing)\b", re.I)
    assert [str(path) for path in texts if found.search(path.read_text())] == []
