"""manage.py notify: from a terminal to somebody's inbox."""

import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from notifications.models import Notification
from notifications.streams import inbox

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments):
    out = StringIO()
    call_command("notify", *arguments, stdout=out)
    return out.getvalue()


def test_a_title_is_enough(user):
    """It prints the id, and the notification is there, numbered."""
    told = run("ada", "Hello")
    row = Notification.objects.get()
    assert (uuid.UUID(told.strip()), row.user, row.title, row.level, row.seq) == (
        row.pk,
        user,
        "Hello",
        "info",
        1,
    )


def test_everything(user):
    """Each option is a field."""
    run("ada", "Hello", "--body", "There", "--url", "/there/", "--level", "warning", "--key", "k")
    row = Notification.objects.get()
    assert (row.body, row.url, row.level, row.key) == ("There", "/there/", "warning", "k")


def test_the_key_replaces(user):
    """As it does from code."""
    run("ada", "old", "--key", "k")
    run("ada", "new", "--key", "k")
    assert Notification.objects.get(archived_at=None).title == "new"


def test_nobody_of_that_name(user):
    """Says so, and how to go on."""
    with pytest.raises(CommandError, match=r"There is no user 'bob'\. Check the spelling"):
        run("bob", "Hello")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x" * 201], "Nothing was sent. title has 201 characters"),
        ([""], "Nothing was sent. title is empty"),
        (["Hello", "--url", "javascript:x"], "Nothing was sent. url is"),
        (["Hello", "--level", "fatal"], "invalid choice: 'fatal'"),
    ],
)
def test_out_of_bounds(arguments, words, user):
    """One clear line, and nothing is stored."""
    with pytest.raises(CommandError, match=words):
        run("ada", *arguments)
    assert not Notification.objects.exists()


def test_a_busy_database(user, monkeypatch):
    """One clear line."""

    def busy(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr(inbox, "create_notifications", busy)
    with pytest.raises(CommandError, match=r"Nothing was sent: .*database is locked.* Try again"):
        run("ada", "Hello")
