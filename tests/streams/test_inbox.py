"""Notifications: who is told, in which words, and what is marked as read."""

import threading
import time
import uuid

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from notifications import streams
from notifications.api import anotify, notify
from notifications.models import Notification, Stream
from notifications.streams import inbox
from tests.data.shapes import assert_orderly, position, titles

pytestmark = pytest.mark.django_db(transaction=True)


def test_everything_that_can_be_said(user):
    """Each field is stored as it was given."""
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
    """The rest has defaults that can be shown."""
    notify(user, "Hello")
    row = Notification.objects.get()
    assert (row.body, row.url, row.level, row.category, row.key, row.data) == ("", "", "info", "", "", "{}")


async def test_from_async_code(user):
    """anotify() is notify()."""
    (id,) = await anotify(user, "Hello", level="warning")
    assert await Notification.objects.filter(pk=id, level="warning").aexists()


@pytest.mark.parametrize(
    "named",
    [
        lambda ada, bob: ada,
        lambda ada, bob: ada.pk,
        lambda ada, bob: str(ada.pk),
        lambda ada, bob: [ada],
        lambda ada, bob: SimpleLazyObject(lambda: ada),
        lambda ada, bob: (person for person in [ada, ada, ada.pk]),
        lambda ada, bob: get_user_model().objects.filter(pk=ada.pk),
    ],
)
def test_one_user(named, user, other_user):
    """A user, a key, or something with them in it, each once."""
    assert len(notify(named(user, other_user), "Hello")) == 1
    assert (position(user), position(other_user)) == ((1, 1), (0, 0))


def test_the_ids_are_in_the_order_of_the_users(user, other_user):
    """Whatever order they are inserted in."""
    for people in ([user, other_user], [other_user, user]):
        ids = notify(people, "Hello")
        assert [Notification.objects.get(pk=id).user for id in ids] == people


def test_nobody(transactional_db):
    """An empty list is no error."""
    assert notify([], "Hello") == []
    assert not Stream.objects.exists()


@pytest.mark.parametrize(
    ("who", "error", "words"),
    [
        (None, ValueError, "Pass a saved user"),
        ([None], ValueError, "Pass a saved user"),
        (AnonymousUser(), ValueError, "Pass a saved user"),
        (lambda: get_user_model()(username="new"), ValueError, "Pass a saved user"),
        ("ada", ValueError, "is not a primary key of a user"),
        (lambda: Group.objects.create(name="staff"), TypeError, "is not a user"),
    ],
)
def test_somebody_who_cannot_be_notified(who, error, words, user):
    """A fact and a remedy, and nothing is stored: neither for a name, nor for a row of another model."""
    with pytest.raises(error, match=words):
        notify(who() if callable(who) and not isinstance(who, type) else who, "Hello")
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    ("fields", "error", "words"),
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
def test_out_of_bounds(fields, error, words, user):
    """Refused when written, so that whatever is stored can be sent."""
    with pytest.raises(error, match=words):
        notify(user, **{"title": "Hello", **fields})
    assert not Notification.objects.exists()


def test_one_of_many_that_is_refused_refuses_all(user):
    """Everything is checked before anything is written."""
    with pytest.raises(ValueError, match="Pass a saved user"):
        notify([user, None], "Hello")
    assert not Notification.objects.exists()


def test_lazy_texts(user):
    """A translation is stored in the language that is active now."""
    notify(user, gettext_lazy("Hello"))
    assert titles(user) == ["Hello"]


def test_many_users(transactional_db):
    """In chunks, each a short transaction of its own."""
    people = get_user_model().objects.bulk_create(
        get_user_model()(username=f"u{number}") for number in range(250)
    )
    ids = notify(people, "Maintenance at 22:00")
    assert len(set(ids)) == 250
    assert Notification.objects.count() == 250
    assert_orderly(people)


def test_many_users_leave_the_lock_to_others(transactional_db, monkeypatch):
    """SQLite's lock is unfair: between two chunks it is free as long as it was held, at least 5 ms."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL needs no pauses.")
    monkeypatch.setattr(inbox, "MAX_ROWS_PER_TRANSACTION", 5)
    people = get_user_model().objects.bulk_create(
        get_user_model()(username=f"u{number}") for number in range(300)
    )
    others, going = [], threading.Event()

    def write():
        going.wait()
        while going.is_set():
            began = time.monotonic()
            Stream.objects.filter(pk=0).update(floor=0)
            others.append(time.monotonic() - began)
        connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    going.set()
    try:
        notify(people, "Maintenance at 22:00")
    finally:
        going.clear()
        thread.join()
    assert len(others) > 100
    assert sorted(others)[len(others) // 2] < 0.1


def test_reading_needs_no_number(user):
    """Marking what somebody else marks at the same moment is no error, and numbers nothing twice."""
    notify(user, "note")
    with transaction.atomic():
        inbox.mark(user.pk, "read", 1)
        inbox.mark(user.pk, "read", 1)
    assert position(user) == (2, 0)
    assert inbox.mark(user.pk, "read", 2) is False
    assert position(user) == (2, 0)


def test_reading_by_ids_that_are_not_there(user, other_user):
    """They are ignored, and so are others'."""
    (theirs,) = notify(other_user, "theirs")
    assert inbox.mark(user.pk, "read", 10, [theirs, uuid.uuid4()]) is False
    assert (position(user), position(other_user)) == ((0, 0), (1, 1))


def test_reading_leaves_the_archived_uncounted(user):
    """An archived row that is read takes nothing from unread."""
    notify(user, "old", key="k")
    notify(user, "new", key="k")
    inbox.mark(user.pk, "read", 1)
    assert position(user)[1] == 1
    assert_orderly([user])


@pytest.mark.parametrize("verb", inbox.VERBS)
def test_every_verb_touches_only_what_is_not_so_already(user, verb):
    """Each row it touches gets a new seq, and its field; a second call finds nothing to do."""
    for title in ("a", "b", "c"):
        inbox.create_notifications(user, title)
    field, sets = inbox.VERBS[verb]
    if not sets:
        Notification.objects.update(**{field: timezone.now()})
    inbox.mark(user.pk, verb, 2)
    found = dict(Notification.objects.values_list("title", field))
    assert [found[title] is not None for title in "abc"] == [sets, sets, not sets]
    head = Stream.objects.get(user=user).head
    assert head == 5
    inbox.mark(user.pk, verb, 2)
    assert Stream.objects.get(user=user).head == head


def test_unread_and_unarchive_bring_a_row_back_into_the_count(user):
    """``unread`` counts what is neither read nor archived."""
    inbox.create_notifications(user, "a")
    counts = []
    for verb in ("read", "unread", "archive", "unarchive"):
        inbox.mark(user.pk, verb, 1)
        counts.append(Stream.objects.get(user=user).unread)
    assert counts == [0, 1, 0, 1]


def test_a_superseded_row_is_not_unarchived(user):
    """The newer one with its key stands for it; one without a newer one comes back."""
    inbox.create_notifications(user, "older", key="k")
    inbox.create_notifications(user, "newer", key="k")
    inbox.create_notifications(user, "alone", key="other")
    inbox.mark(user.pk, "archive", 10**6)
    inbox.mark(user.pk, "unarchive", 10**6)
    back = set(Notification.objects.filter(archived_at=None).values_list("title", flat=True))
    assert back == {"newer", "alone"}


def test_unarchiving_rows_with_keys_takes_one_more_statement(user):
    """Newer rows with the same keys are found by one statement, not by one for each row."""

    def statements(rows, fields):
        inbox.mark(user.pk, "archive", 10**6)
        ids = [inbox.create_notifications(user, "row", **fields(number))[0] for number in range(rows)]
        inbox.mark(user.pk, "archive", 10**6, ids)
        with CaptureQueriesContext(connection) as queries:
            inbox.mark(user.pk, "unarchive", 10**6, ids)
        assert Notification.objects.filter(id__in=ids, archived_at=None).count() == rows
        reads = [query["sql"] for query in queries if "notifications_notification" in query["sql"]]
        assert not [sql for sql in reads if "EXISTS" in sql]
        return len(reads)

    without_keys = statements(60, lambda number: {})
    assert statements(60, lambda number: {"key": f"k{number}"}) == without_keys + 1
    assert statements(2, lambda number: {"key": f"other{number}"}) == without_keys + 1


def test_unarchiving_passes_over_more_superseded_rows_than_one_transaction_takes(user, monkeypatch):
    monkeypatch.setattr(inbox, "MAX_ROWS_PER_TRANSACTION", 3)
    monkeypatch.setattr(inbox, "MAX_MARKED_ROWS", 3)
    for _ in range(7):
        inbox.create_notifications(user, "superseded", key="k")
    inbox.create_notifications(user, "newest", key="k")
    inbox.create_notifications(user, "another", key="other")
    inbox.mark(user.pk, "archive", 10**6)
    assert inbox.mark(user.pk, "unarchive", 10**6) is False
    unarchived = set(Notification.objects.filter(archived_at=None).values_list("title", flat=True))
    assert unarchived == {"newest", "another"}


def test_a_database_that_is_busy_after_the_rows_are_stored(transactional_db, monkeypatch, caplog):
    """They are sent: an error would have them sent twice. They get their number later."""
    people = get_user_model().objects.bulk_create(
        get_user_model()(username=f"u{number}") for number in range(250)
    )

    def busy(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr(streams, "number_in_transaction", lambda users: True)
    monkeypatch.setattr(streams, "number", busy)
    assert len(notify(people, "Hello")) == 250
    assert Notification.objects.count() == 250
    assert "Could not number notifications" in caplog.text
    monkeypatch.undo()
    streams.number_pending()
    assert_orderly(people)
