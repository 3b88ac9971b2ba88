"""A SQLite database `:memory:` is one for each connection: "run migrate" would be no remedy."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from notifications.db import missing_tables
from tests.support.checks import doctor, system_checks

FILE = '"NAME": BASE_DIR / "db.sqlite3"'


@pytest.fixture
def in_memory(monkeypatch):
    """The database of the app is one in memory, without tables."""
    settings = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    monkeypatch.setitem(connections.settings, "default", {**settings, "OPTIONS": {}})
    former = connections["default"]
    del connections["default"]
    yield
    if opened := connections["default"].connection:
        opened.close()  # Django's close() keeps one in memory
    connections["default"] = former


@pytest.mark.django_db(transaction=True)
def test_texts_of_a_database_in_memory(in_memory):
    """Errors of commands, of the start of servers and workers, and doctor name the cause."""
    with pytest.raises(CommandError) as error:
        call_command("notifications", "jobs", "list")
    texts = {
        "command": str(error.value),
        **{finding["check"]: finding["remedy"] for finding in doctor("tables")},
        "start": doctor("ready", live=True)[0]["remedy"],
    }
    assert len(texts) == 3
    for name, text in texts.items():
        assert "each connection" in text and FILE in text, (name, text)
        assert "manage.py migrate." not in text, (name, text)


def test_check(in_memory):
    """W050, before anything else fails."""
    (message,) = system_checks("W050")
    assert message.msg.startswith("DATABASES['default'] is ':memory:'") and FILE in message.hint


@pytest.mark.django_db
def test_other_databases():
    """That of a test run in memory is shared by its connections."""
    assert missing_tables.describe_remedy() == "Run manage.py migrate."
    assert system_checks("W050") == []
