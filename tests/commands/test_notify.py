"""`manage.py notify` creates a notification for a user."""

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
    """It prints the id of a notification that has a seq."""
    output = run("ada", "Hello")
    row = Notification.objects.get()
    assert (uuid.UUID(output.strip()), row.user, row.title, row.level, row.seq) == (
        row.pk,
        user,
        "Hello",
        "info",
        1,
    )


def test_options(user):
    """Each option sets the field of its name."""
    run("ada", "Hello", "--body", "Text", "--url", "/check/", "--level", "warning", "--key", "k")
    row = Notification.objects.get()
    assert (row.body, row.url, row.level, row.key) == ("Text", "/check/", "warning", "k")


def test_a_second_notification_with_the_same_key(user):
    """It archives the first one, as with notify()."""
    run("ada", "old", "--key", "k")
    run("ada", "new", "--key", "k")
    assert Notification.objects.get(archived_at=None).title == "new"


def test_an_unknown_user(user):
    """The error has a remedy."""
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
def test_invalid_values(arguments, words, user):
    """The error states the problem, and nothing is stored."""
    with pytest.raises(CommandError, match=words):
        run("ada", *arguments)
    assert not Notification.objects.exists()


def test_a_locked_database(user, monkeypatch):
    """The error states the problem and the remedy, without a traceback."""

    def fail(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr(inbox, "create_notifications", fail)
    with pytest.raises(CommandError, match=r"Nothing was sent: .*database is locked.* Try again"):
        run("ada", "Hello")
