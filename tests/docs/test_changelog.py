"""The changelog names settings that exist, and its entries are complete sentences in known sections."""

import re

from notifications.conf import DEFAULTS
from tests.support.site import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
#: Names in capitals that are settings of Django.
OTHERS = {"ATOMIC_REQUESTS"}


def test_settings_exist():
    """In code: `NOTIFICATIONS["HANDLERS"]`, or the key alone."""
    names = set(
        re.findall(
            r'`(?:NOTIFICATIONS\["|)([A-Z]+_[A-Z_]+|HANDLERS|SCHEDULES|DELIVERY|CATEGORIES|RETENTION)(?:"\]|)`',
            CHANGELOG,
        )
    )
    assert {"HANDLERS", "RETENTION"} <= names
    assert not names - set(DEFAULTS) - OTHERS


def test_entries():
    """Each is one line that ends as a sentence; no two are equal."""
    entries = [line for line in CHANGELOG.splitlines() if line.startswith("- ")]
    assert len(entries) == len(set(entries)) > 20
    assert [entry for entry in entries if not entry.endswith(".")] == []
