"""The runbook: it has a section for each alert, and what it quotes is what commands and logs say."""

import re

from notifications.contrib.operations.models import alert_kinds
from tests.docs.pages import DOCS, tables
from tests.support.site import ROOT

PAGE = DOCS / "how-to/runbook.md"
#: Sentences that the page quotes from elsewhere: the browser.
OTHERS = {"notifications is not defined"}


def test_each_alert_has_a_section():
    headings = re.findall(r"^### (.+)$", PAGE.read_text(), re.M)
    assert sorted(headings) == sorted(str(label) for _, label in alert_kinds())


def test_quotes_are_in_the_source():
    """Those of the first columns, up to what differs from case to case. Those of one word are names of states."""
    sources = [*(ROOT / "notifications").rglob("*.py"), *(ROOT / "notifications/static").rglob("client.js")]
    # Adjacent literals of Python are one text.
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in sources))
    quotes = [
        re.split(r"…|\d", quote)[0].strip()
        for _, _, *rows in tables(PAGE)
        for row in rows
        for quote in re.findall(r"`([^`]+)`", row[0])
    ]
    assert len(quotes) > 30
    names = [
        quote.partition(":")[0].strip('"') if ":" in quote or '"' in quote else quote for quote in quotes
    ]
    assert [name for name in names if name not in OTHERS and name not in source] == []
