"""Creating notifications, and marking them as read, unread, archived and unarchived."""

import json
import re
import threading
import time
import uuid

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from notifications import streams
from notifications.api import anotify, notify
from notifications.models import Notification, Stream
from notifications.streams import marking
from tests.data.shapes import assert_consistent, position, titles
from tests.support.statements import preceded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


def test_all_fields(user):
    """All fields of notify() are stored unchanged."""
    fields = {
        "body": "12,400 rows",
        "url": "/exports/7/",
        "level": "success",
        "category": "export",
        "key": "export:7",
    }
    (id,) = notify(user, "Export ready", data={"rows": 12400, "name": "ü"}, **fields)
    row = Notification.objects.get()
    assert (row.pk, row.user, row.title, row.data) == (id, user, "Export ready", '{"rows":12400,"name":"ü"}')
    assert {name: getattr(row, name) for name in fields} == fields
    assert (row.job, row.read_at, row.archived_at) == (None, None, None)


def test_a_title_is_enough(user):
    """A title is the only required field; the others have defaults."""
    notify(user, "Hello")
    row = Notification.objects.get()
    assert (row.body, row.url, row.level, row.category, row.key, row.data) == ("", "", "info", "", "", "{}")


def test_actor_and_target(user):
    """Both fill the title, and are data for the page. The target is where a click leads, unless there is a URL."""
    ada = {"name": "Ada Lovelace", "image": "/media/ada.png"}
    report = {"name": "Report 7", "url": "/reports/7/"}
    title = gettext_lazy("{actor} commented on {target}")
    notify(user, title, actor=ada, target=report, icon="comment", data={"comment": 4})
    notify(user, "{target}: {name}", actor="Ada", target="Report 8", url="/x/")
    first, second = Notification.objects.order_by("pk")
    assert (first.title, first.url) == ("Ada Lovelace commented on Report 7", "/reports/7/")
    assert json.loads(first.data) == {"comment": 4, "icon": "comment", "actor": ada, "target": report}
    assert (second.title, second.url) == ("Report 8: {name}", "/x/")
    assert json.loads(second.data) == {"actor": {"name": "Ada"}, "target": {"name": "Report 8"}}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"icon": "rocket"}, "icon is 'rocket'. It must be one of bell, card,"),
        (
            {"icon": "bell", "data": {"icon": "card"}},
            "data has the key 'icon' already. Pass it by one of the two.",
        ),
        ({"actor": {"image": "/a.png"}}, "actor must have the key 'name', and may have 'image'."),
        ({"actor": {"name": "Ada", "url": "/a/"}}, "actor must have the key 'name', and may have 'image'."),
        (
            {"actor": {"name": "Ada", "image": "javascript:alert(1)"}},
            "actor['image'] is 'javascript:alert(1)'.",
        ),
        ({"actor": {"name": "Ada", "image": "data:image/png,x"}}, "actor['image'] is 'data:image/png,x'."),
        ({"actor": "x" * 101}, "actor has 101 characters. At most 100 are allowed."),
        ({"actor": {"name": " "}}, "actor['name'] is empty."),
        ({"target": 7}, "target must be a name, or a dict of 'name' and 'url', not int."),
        ({"target": {"name": "Report", "url": "//evil.example/"}}, "target['url'] is '//evil.example/'."),
    ],
)
def test_an_icon_actor_or_target_that_is_refused(user, fields, error):
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        notify(user, "Hello", **fields)
    assert not Notification.objects.exists()


async def test_from_async_code(user):
    """anotify() creates a notification from async code."""
    (id,) = await anotify(user, "Hello", level="warning")
    assert await Notification.objects.filter(pk=id, level="warning").aexists()


@pytest.mark.parametrize(
    "users_of",
    [
        lambda ada, bob: ada,
        lambda ada, bob: ada.pk,
        lambda ada, bob: str(ada.pk),
        lambda ada, bob: [ada],
        lambda ada, bob: SimpleLazyObject(lambda: ada),
        lambda ada, bob: (item for item in [ada, ada, ada.pk]),
        lambda ada, bob: get_user_model().objects.filter(pk=ada.pk),
    ],
)
def test_one_user(users_of, user, other_user):
    """notify() accepts a user, a key, or an iterable of them, and notifies each user once."""
    assert len(notify(users_of(user, other_user), "Hello")) == 1
    assert (position(user), position(other_user)) == ((1, 1), (0, 0))


def test_the_ids_are_in_the_order_of_the_users(user, other_user):
    """The returned ids are in the order of the users."""
    for users in ([user, other_user], [other_user, user]):
        ids = notify(users, "Hello")
        assert [Notification.objects.get(pk=id).user for id in ids] == users


def test_no_users(transactional_db):
    """An empty list of users creates nothing and raises no error."""
    assert notify([], "Hello") == []
    assert not Stream.objects.exists()


@pytest.mark.parametrize(
    ("invalid_user", "error", "message"),
    [
        (None, ValueError, "Pass a saved user"),
        ([None], ValueError, "Pass a saved user"),
        (AnonymousUser(), ValueError, "An anonymous user has no inbox"),
        (lambda: get_user_model()(username="new"), ValueError, "Pass a saved user"),
        ("ada", ValueError, "is not a primary key of a user"),
        (10**30, ValueError, "is not a primary key of a user"),
        (lambda: Permission.objects.first(), TypeError, "is not a user"),
    ],
)
def test_invalid_user(invalid_user, error, message, user):
    """An unsaved, anonymous or missing user, a name, or a row of another model is refused, and nothing is stored."""
    if callable(invalid_user) and not isinstance(invalid_user, type):
        invalid_user = invalid_user()
    with pytest.raises(error, match=message):
        notify(invalid_user, "Hello")
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"title": ""}, ValueError, "title is empty"),
        ({"title": " "}, ValueError, "title is empty"),
        ({"title": "x" * 201}, ValueError, "title has 201 characters"),
        ({"title": None}, TypeError, "title must be a string"),
        ({"body": "x" * 2001}, ValueError, "body has 2001"),
        ({"url": "javascript:alert(1)"}, ValueError, "must be a path"),
        ({"url": "/" + "x" * 1000}, ValueError, "url has 1001"),
        ({"category": "x" * 101}, ValueError, "category has 101"),
        ({"key": "x" * 201}, ValueError, "key has 201"),
        ({"level": "fatal"}, ValueError, "info, success, warning, error"),
        ({"data": []}, TypeError, "data must be a dict"),
        ({"data": {"x": "x" * 4096}}, ValueError, "At most 4096"),
        ({"data": {"x": float("nan")}}, ValueError, "data cannot be written as JSON"),
        ({"data": {"x": object()}}, TypeError, "data cannot be written as JSON"),
    ],
)
def test_invalid_fields(fields, error, message, user):
    """Invalid or too long fields are refused before they are stored, so that every stored row can be sent."""
    with pytest.raises(error, match=message):
        notify(user, **{"title": "Hello", **fields})
    assert not Notification.objects.exists()


def test_one_invalid_user_refuses_all(user):
    """If one of several users is invalid, no notification is created."""
    with pytest.raises(ValueError, match="Pass a saved user"):
        notify([user, None], "Hello")
    assert not Notification.objects.exists()


def test_lazy_texts(user):
    """A lazy translation is stored as text in the active language."""
    notify(user, gettext_lazy("Hello"))
    assert titles(user) == ["Hello"]


def test_many_users(transactional_db):
    """250 users, who are notified in several transactions, each get one notification and its seq."""
    users = get_user_model().objects.bulk_create(
        get_user_model()(username=f"u{number}") for number in range(250)
    )
    ids = notify(users, "Maintenance at 22:00")
    assert len(set(ids)) == 250
    assert Notification.objects.count() == 250
    assert_consistent(users)


def test_many_users_do_not_block_other_writers(transactional_db, set_bounds):
    """While many users are notified, another thread can write: SQLite's lock is released between two chunks."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL needs no pauses.")
    set_bounds(rows=5)
    users = get_user_model().objects.bulk_create(
        get_user_model()(username=f"u{number}") for number in range(300)
    )
    durations, is_running = [], threading.Event()

    def write():
        is_running.wait()
        while is_running.is_set():
            started = time.monotonic()
            Stream.objects.filter(pk=0).update(floor=0)
            durations.append(time.monotonic() - started)
        connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    is_running.set()
    try:
        notify(users, "Maintenance at 22:00")
    finally:
        is_running.clear()
        thread.join()
    assert len(durations) > 100
    assert sorted(durations)[len(durations) // 2] < 0.1


def test_marking_as_read_twice(user):
    """Marking rows as read a second time raises no error and assigns no seq."""
    notify(user, "note")
    with transaction.atomic():
        marking.mark(user.pk, "read", 1)
        marking.mark(user.pk, "read", 1)
    assert position(user) == (2, 0)
    assert marking.mark(user.pk, "read", 2).next is None
    assert position(user) == (2, 0)


def test_marking_by_unknown_ids(user, other_user):
    """Ids that do not exist or belong to another user are ignored."""
    (id,) = notify(other_user, "for another user")
    assert marking.mark(user.pk, "read", 10, [id, uuid.uuid4()]).next is None
    assert (position(user), position(other_user)) == ((0, 0), (1, 1))


def test_marking_archived_rows_as_read(user):
    """Marking an archived row as read does not decrease unread."""
    notify(user, "old", key="k")
    notify(user, "new", key="k")
    marking.mark(user.pk, "read", 1)
    assert position(user)[1] == 1
    assert_consistent([user])


@pytest.mark.parametrize(
    ("verb", "field", "sets"),
    [
        ("read", "read_at", True),
        ("unread", "read_at", False),
        ("archive", "archived_at", True),
        ("unarchive", "archived_at", False),
    ],
)
def test_verbs_change_only_rows_without_their_effect(user, verb, field, sets):
    """A verb sets the field and a new seq of the rows that it changes; a second call changes nothing."""
    for title in ("a", "b", "c"):
        notify(user, title)
    if not sets:
        Notification.objects.update(**{field: timezone.now()})
    marking.mark(user.pk, verb, 2)
    values = dict(Notification.objects.values_list("title", field))
    assert [values[title] is not None for title in "abc"] == [sets, sets, not sets]
    head = Stream.objects.get(user=user).head
    assert head == 5
    marking.mark(user.pk, verb, 2)
    assert Stream.objects.get(user=user).head == head


def test_unread_and_unarchive_increase_the_count(user):
    """The unread count includes the rows that are neither read nor archived, also after unread and unarchive."""
    notify(user, "a")
    counts = []
    for verb in ("read", "unread", "archive", "unarchive"):
        marking.mark(user.pk, verb, 1)
        counts.append(Stream.objects.get(user=user).unread)
    assert counts == [0, 1, 0, 1]


def test_superseded_row_is_not_unarchived(user):
    """Unarchiving leaves a row archived if a newer one has the same key."""
    notify(user, "older", key="k")
    notify(user, "newer", key="k")
    notify(user, "another", key="other")
    marking.mark(user.pk, "archive", 10**6)
    marking.mark(user.pk, "unarchive", 10**6)
    unarchived = set(Notification.objects.filter(archived_at=None).values_list("title", flat=True))
    assert unarchived == {"newer", "another"}


def test_unarchiving_rows_with_keys_takes_one_more_statement(user):
    """Newer rows with the same keys are found by one statement, not by one for each row."""

    def count_statements(rows, fields):
        marking.mark(user.pk, "archive", 10**6)
        ids = [notify(user, "row", **fields(number))[0] for number in range(rows)]
        marking.mark(user.pk, "archive", 10**6, ids)
        with CaptureQueriesContext(connection) as queries:
            marking.mark(user.pk, "unarchive", 10**6, ids)
        assert Notification.objects.filter(id__in=ids, archived_at=None).count() == rows
        reads = [query["sql"] for query in queries if "notifications_notification" in query["sql"]]
        assert not [sql for sql in reads if "EXISTS" in sql]
        return len(reads)

    without_keys = count_statements(60, lambda number: {})
    assert count_statements(60, lambda number: {"key": f"k{number}"}) == without_keys + 1
    assert count_statements(2, lambda number: {"key": f"other{number}"}) == without_keys + 1


def test_unarchiving_skips_many_superseded_rows(user, set_marking):
    """Unarchiving reaches rows behind more superseded ones than one transaction reads."""
    set_marking(MAX_ROWS_PER_TRANSACTION=3)
    set_marking(MAX_MARKED_ROWS=3)
    for _ in range(7):
        notify(user, "superseded", key="k")
    notify(user, "newest", key="k")
    notify(user, "another", key="other")
    marking.mark(user.pk, "archive", 10**6)
    assert marking.mark(user.pk, "unarchive", 10**6).next is None
    unarchived = set(Notification.objects.filter(archived_at=None).values_list("title", flat=True))
    assert unarchived == {"newest", "another"}


def test_failed_numbering_of_stored_rows(transactional_db, monkeypatch, caplog):
    """If numbering fails after the rows are committed, notify() raises no error, and they are numbered later.

    After an error the caller would notify again.
    """
    users = get_user_model().objects.bulk_create(
        get_user_model()(username=f"u{number}") for number in range(250)
    )

    def fail(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr(streams, "number_new", lambda rows: None)  # as if a key were in use
    monkeypatch.setattr(streams, "number_in_transaction", lambda users: True)
    monkeypatch.setattr(streams, "number", fail)
    assert len(notify(users, "Hello")) == 250
    assert Notification.objects.count() == 250
    assert "Could not number rows" in caplog.text
    monkeypatch.undo()
    streams.number_pending()
    assert_consistent(users)


def test_rows_of_a_repeated_transaction_are_numbered_anew(transactional_db, user):
    """Their numbers were rolled back with their streams."""

    def refuse():
        raise OperationalError("database is locked")

    with preceded("INSERT INTO notifications_notification", refuse) as inserts:
        notify(user, "Hello")
    assert inserts
    assert_consistent([user])
