"""`manage.py notify` creates a notification for a user."""

import json
import uuid
from io import StringIO

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import OperationalError

from notifications.models import Notification
from tests.support.statements import preceded, refused

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


@pytest.mark.parametrize(("field", "name"), [("username", "ada"), ("email", "ada@example.com")])
def test_an_unknown_user(field, name, make_user, django_user_model, monkeypatch):
    """The error has a remedy, and the field by which the project names its users. Nobody is notified."""
    make_user("ada", email="ada@example.com")
    monkeypatch.setattr(django_user_model, "USERNAME_FIELD", field)
    with pytest.raises(CommandError, match=rf"There is no user 'bob'\. Check the spelling of the {field},"):
        run(name, "bob", "Hello")
    assert not Notification.objects.exists()


def test_several_users(user, other_user):
    """It prints an id for each, and each gets one, however often it is named."""
    ids = run("ada", "bob", "ada", "Hello").split()
    assert [Notification.objects.get(id=id).user for id in ids] == [user, other_user]
    lines = map(json.loads, run("ada", "bob", "Hello", "--json").splitlines())
    assert [line["user"] for line in lines] == [str(user.pk), str(other_user.pk)]


def test_groups_and_staff(user, other_user, make_user):
    """The active members of any of the groups, and active staff, each once."""
    editors, writers = (Group.objects.create(name=name) for name in ("editors", "writers"))
    user.groups.set([editors, writers])
    boss, gone = make_user("boss", is_staff=True), make_user("gone", is_staff=True, is_active=False)
    gone.groups.add(editors)
    assert run("--group", "editors", "--group", "writers", "Hello") == "1 user notified.\n"
    assert run("--group", "editors", "--staff", "Hello") == "2 users notified.\n"
    assert run("--staff", "bob", "Hello") == "2 users notified.\n"
    counts = [Notification.objects.filter(user=row).count() for row in (user, boss, other_user, gone)]
    assert counts == [2, 2, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Hello"], "Name a user, or use --group or --staff"),
        (["--group", "nobody", "Hello"], "There is no group 'nobody'"),
        (["--staff", "Hello"], "no active user is in these groups"),
    ],
)
def test_nobody_to_notify(arguments, words, user):
    with pytest.raises(CommandError, match=words):
        run(*arguments)


def test_many_recipients(make_user, set_bounds):
    """They are notified in chunks; after an error the message says how many were."""
    set_bounds(rows=2)
    for number in range(5):
        make_user(f"staff{number}", is_staff=True)
    assert run("--staff", "Hello") == "5 users notified.\n"
    calls = []

    def fail_at_the_second():
        calls.append(1)
        if len(calls) > 1:
            raise OperationalError("disk I/O error")

    err = StringIO()
    fails = preceded("INSERT INTO notifications_notification", fail_at_the_second, times=None)
    with fails, pytest.raises(CommandError, match="disk I/O error"):
        call_command("notify", "--staff", "Again", stdout=StringIO(), stderr=err)
    assert "Only 2 of 5 users were notified." in err.getvalue()


def test_a_body_of_standard_input(user, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO("33 ok\n6 failed\n"))
    run("ada", "Nightly check", "--body", "-")
    assert Notification.objects.get().body == "33 ok\n6 failed"
    monkeypatch.setattr("sys.stdin", StringIO("x" * 100_000))
    with pytest.raises(CommandError, match=r"Nothing was sent\. body has"):
        run("ada", "Nightly check", "--body", "-")


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


def test_a_database_that_is_away(user):
    """The error states the problem and the remedy, without a traceback."""
    is_away = refused("INSERT INTO notifications_notification")
    with is_away, pytest.raises(CommandError, match=r"Nothing was sent: .*database is away.* Try again"):
        run("ada", "Hello")
