"""Streams that do not agree with their rows, as after data were moved without them, are found and rebuilt."""

from io import StringIO

import pytest
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client

from notifications.api import notify
from notifications.contrib.deliveries.models import Reader
from notifications.models import Epoch, Job, Notification, Stream, uuid7
from notifications.streams import marking, read_numbered_position, rebuilding
from notifications.streams.marking_seen import mark_seen
from tests.data.rows import finish_job, job
from tests.data.shapes import assert_consistent, titles

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def moved(user, other_user):
    """Two users whose rows have positions, notifications and jobs, read and unread, and a third without any."""
    for number in range(5):
        notify(user, f"note {number}")
    finish_job(job(user), uuid7())
    marking.mark(user.pk, "read", 2)
    mark_seen(user.pk, 3)
    notify(other_user, "other")
    assert_consistent([user, other_user])
    assert wrong_users() == []
    return user


def wrong_users():
    found = rebuilding.find_wrong_streams()
    assert rebuilding.find_wrong_streams(10) == found
    return found


def test_old_rows_above_the_head(moved, other_user):
    """They are found by their stream, however many newer rows other users have."""
    Stream.objects.filter(user=moved).update(head=2)
    for number in range(3):
        notify(other_user, f"newer {number}")
    assert rebuilding.find_wrong_streams(2) == [moved.pk]


def run_doctor(*options):
    """Return the findings about positions and counts, which are wrong, or those of --recount."""
    errors = StringIO()
    with pytest.raises(CommandError) as failed:  # No worker runs its job, and perhaps more.
        call_command(
            "notifications", "doctor", "--timeout", "0.1", *options, stdout=StringIO(), stderr=errors
        )
    return str(failed.value), errors.getvalue()


def assert_rebuilt(*users):
    """Assert that doctor finds the streams of these users, and rebuilds them with a new epoch."""
    epoch = read_numbered_position(0).epoch
    assert wrong_users() == [user.pk for user in users]
    assert "positions" in run_doctor()[0]
    failed, report = run_doctor("--recount")
    assert "positions" not in failed and "unread" not in failed
    for user in users:
        assert f"Rebuilt the stream of user {user.pk}" in report
    assert read_numbered_position(0).epoch != epoch and read_numbered_position(0).epoch in report
    assert wrong_users() == []
    assert rebuilding.find_wrong_counts() == {}
    assert_consistent(users)
    for user in users:
        client = Client()
        client.force_login(user)
        shown = client.get("/notifications/api/sync/").json()["items"]
        assert len(shown) == Notification.objects.filter(user=user, archived_at=None).count()


def test_rows_without_a_stream(moved, other_user):
    """A dump without streams: they are built from the rows, and `seen` from the marks."""
    before = list(Notification.objects.order_by("id").values())
    seen = Stream.objects.get(user=moved).seen
    Stream.objects.all().delete()
    Epoch.objects.all().delete()
    assert_rebuilt(moved, other_user)
    assert list(Notification.objects.order_by("id").values()) == before
    assert Stream.objects.get(user=moved).seen == seen


def test_rows_above_the_head(moved):
    """The stream of another user, with a smaller head: all rows are shown again."""
    Stream.objects.filter(user=moved).update(head=2, seen=1, unread=2, unseen=1)
    assert_rebuilt(moved)
    assert titles(moved, read_at=None) == ["note 2", "note 3", "note 4", "Work"]


def test_stream_of_a_user_with_more_rows(moved, other_user):
    """Its head is far enough, but by its `seen` the new rows would be no news: the marks say what was seen."""
    seen, unseen = Stream.objects.values_list("seen", "unseen").get(user=moved)
    Stream.objects.filter(user=moved).update(head=70, seen=60, unseen=0)
    assert_rebuilt(moved)
    stream = Stream.objects.get(user=moved)
    assert (stream.head, stream.seen, stream.unseen) == (70, seen, unseen)


def test_mark_above_the_rows(moved):
    """A client may have been shown a stream up to a position without a row, which only the mark has then."""
    mark_seen(moved.pk, Stream.objects.get(user=moved).head)
    Stream.objects.all().delete()
    rebuilding.rebuild(moved.pk)
    assert_consistent([moved])


def test_positions_that_are_used_twice(moved):
    """Rows that were notified of in a stream that began anew follow the rows that were there before."""
    Stream.objects.filter(user=moved).delete()
    notify(moved, "new 0")
    notify(moved, "new 1")
    Stream.objects.filter(user=moved).update(head=100)
    assert_rebuilt(moved)
    inbox = Notification.objects.filter(user=moved).order_by("raised").values_list("title", flat=True)
    assert list(inbox) == [*(f"note {number}" for number in range(5)), "Work", "new 0", "new 1"]


@pytest.mark.parametrize("model", [Notification, Job])
def test_position_of_a_row_of_the_other_kind(moved, model):
    """Of a notification and a job at one position the one that came later moves."""
    position = Notification.objects.get(title="note 4").seq
    Job.objects.update(seq=position)
    if model is Notification:
        Job.objects.update(id="00000000-0000-7000-8000-000000000000")
    assert_rebuilt(moved)
    assert Notification.objects.filter(title="note 4", seq=position).exists() is (model is Job)


def test_pending_row_stays_pending(moved):
    """A row that changed before the data were moved is numbered after the rebuild."""
    Notification.objects.filter(title="note 4").update(seq=None)
    Stream.objects.filter(user=moved).delete()
    rebuilding.rebuild(moved.pk)
    assert wrong_users() == []
    assert_consistent([moved])


def test_row_that_another_transaction_locks(moved, open_connection, on_postgresql):
    """The rebuild waits for no row while it holds the stream: the next one moves it."""
    Job.objects.update(seq=F("seq") - 1)
    holder = open_connection()
    holder.begin()
    holder.do(lambda: list(Job.objects.select_for_update()))
    assert rebuilding.rebuild(moved.pk)[2] == 0
    holder.commit()
    assert rebuilding.rebuild(moved.pk)[2] == 1
    assert_consistent([moved])


def test_streams_follow_their_users_into_another_database(moved, other_user, django_user_model):
    """Rows whose key is the user are loaded for the same user, who has another key there, by natural keys."""
    Reader.objects.create(user=moved, time_zone="Asia/Tokyo")
    before = {str(row.user): row.head for row in Stream.objects.all()}
    rows = [*django_user_model.objects.all(), *Stream.objects.all(), *Reader.objects.all()]
    dump = serializers.serialize("json", rows, use_natural_foreign_keys=True, use_natural_primary_keys=True)
    for model in (Stream, Reader, django_user_model):
        model.objects.all().delete()
    django_user_model.objects.create_user("first")
    for row in serializers.deserialize("json", dump):
        row.save()
    assert {str(row.user): row.head for row in Stream.objects.all()} == before
    assert str(Reader.objects.get().user) == str(moved)
