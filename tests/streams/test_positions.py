"""Positions of streams: what one query reads, and who has changes."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.inbox import read_numbered_position
from notifications.models import Epoch, Stream
from notifications.streams import build_notification, marking, positions
from notifications.streams.marking_seen import mark_seen
from tests.data.conftest import large_tables  # noqa: F401 (a fixture)
from tests.data.plans import explain, scans_of
from tests.realtime import rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def test_missing_stream_is_at_position_0(user):
    """A user without a stream is at position 0; no row has to be created first."""
    assert positions.position(user.pk) == positions.Position(head=0, floor=0, unread=0, guard=-1)


def test_position_is_read_by_one_query(user):
    """The head and the counts are read by one query, so that they belong to the same moment."""
    rows.notices(user, 3)
    marking.mark(user.pk, "read", 1)
    mark_seen(user.pk, 2)
    with CaptureQueriesContext(connection) as queries:
        assert positions.position(user.pk) == positions.Position(head=5, unread=2, seen=2, unseen=1)
    assert len(queries) == 1


def test_epoch_and_position_are_read_by_one_query(user, other_user):
    """They equal those that are read by themselves, also without a stream, and without a row of the epoch."""
    rows.notices(user, 3)
    marking.mark(user.pk, "read", 1)
    read_numbered_position(0)  # makes the row
    for each in (user, other_user):
        with CaptureQueriesContext(connection) as queries:
            found = positions.epoch_and_position(each.pk)
        assert found == (read_numbered_position(0).epoch, positions.position(each.pk))
        assert len(queries) == 1
    Epoch.objects.all().delete()
    epoch, position = positions.epoch_and_position(user.pk)
    assert (epoch, position) == (read_numbered_position(0).epoch, positions.position(user.pk))


def test_users_with_unnumbered_rows_are_found(user, other_user):
    """find_unnumbered_users() returns only the users with rows that have no seq."""
    build_notification(user.pk, "left").save()
    assert positions.find_unnumbered_users([user.pk, other_user.pk]) == [user.pk]
    streams.number([user.pk])
    assert positions.find_unnumbered_users([user.pk, other_user.pk]) == []


def test_sums_change_with_every_change_of_an_active_job(user):
    """Each change of an active job changes the sums, by which the position check finds it without a ring."""
    assert positions.read_active_sums([user.pk]) == {}
    job = rows.job(user)
    first = positions.read_active_sums([user.pk])
    rows.change(job, progress_current=1)
    second = positions.read_active_sums([user.pk])
    rows.job(user)
    third = positions.read_active_sums([user.pk])
    assert (first, second, third) == ({user.pk: (1, 1)}, {user.pk: (1, 2)}, {user.pk: (2, 3)})


@pytest.mark.database_law
@pytest.mark.tables("job")
def test_sums_are_read_by_an_index(large_tables, user):  # noqa: F811
    rows.job(user)
    with CaptureQueriesContext(connection) as queries:
        assert positions.read_active_sums([user.pk])
    assert [sql for query in queries if scans_of(explain(sql := query["sql"]))] == []


def test_uncommitted_rows_of_the_caller_are_visible(user):
    """Reads use the thread's connection, so that a caller's uncommitted rows are visible to it."""
    with transaction.atomic():
        Stream.objects.create(pk=user.pk, head=7)
        assert positions.position(user.pk).head == 7
