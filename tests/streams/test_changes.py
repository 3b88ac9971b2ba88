"""Reads of streams: positions, missed changes, snapshots and active jobs, with few queries that use indexes."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.models import Job, Stream
from notifications.streams import changes, marking
from tests.realtime import rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


HOUR = timedelta(hours=1)


@contextmanager
def before_each(part, work):
    """Call a function before each statement with this part. It may execute others."""
    is_working = []

    def wrap(execute, sql, *args):
        if part in sql and not is_working:
            is_working.append(sql)
            work()
            is_working.clear()
        return execute(sql, *args)

    with connection.execute_wrapper(wrap):
        yield


#: Of the statement that reads streams, and of those that read finished jobs, and rows of users with several cursors.
READ_STREAMS, READ_NEAR = "WITH ranges (user_key, low) AS", "WITH ranges (user_key, low, high) AS"


def seqs(missed):
    return [row.seq for row in missed.rows]


def test_missed_changes_of_several_cursors_and_users(user, other_user):
    """Several cursors of several users each get the changes after them, with three queries in total."""
    rows.notices(user, 5)
    rows.finish(rows.job(user))
    rows.notices(other_user, 2)
    with CaptureQueriesContext(connection) as queries:
        found = changes.read_missed({user.pk: [0, 4, 6], other_user.pk: [1]})
    assert {key: seqs(missed) for key, missed in found.items()} == {
        (user.pk, 0): [1, 2, 3, 4, 5, 6],
        (user.pk, 4): [5, 6],
        (user.pk, 6): [],
        (other_user.pk, 1): [2],
    }
    assert not any(missed.reset or missed.cut for missed in found.values())
    assert found[user.pk, 0].position.head == 6
    assert len(queries) == 3


def test_notifications_and_active_jobs_cost_one_query(user, other_user):
    """Positions, notifications and versions of active jobs are of one moment, whatever the number of users."""
    rows.notices(user, 3)
    rows.notices(other_user, 1)
    job = rows.job(user)
    with CaptureQueriesContext(connection) as queries:
        found = changes.read_missed({user.pk: [1], other_user.pk: [0]})
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        found |= changes.read_missed({user.pk: [None, 3]})  # at the head, beside a new client
    assert len(queries) == 1
    assert {key: seqs(missed) for key, missed in found.items()} == {
        (user.pk, 1): [2, 3],
        (user.pk, 3): [],
        (user.pk, None): [],
        (other_user.pk, 0): [1],
    }
    for (pk, cursor), missed in found.items():
        row = Stream.objects.values(*missed.position._fields).get(pk=pk)
        assert missed.position._asdict() == row
        assert list(missed.versions.values()) == [1] * (pk == user.pk)
        assert missed.reset == (cursor is None)
    (id,) = found[user.pk, 1].versions
    assert changes.read_active_jobs([id])[id].pk == job.pk


def test_cursors_of_a_user_are_read_at_one_moment(user, other_user, set_bounds):
    """A snapshot is read at the position of its user: with that of a later query, it would lack a notification."""
    set_bounds(rows=1)

    def write():
        rows.notices(user, 1)
        rows.notices(other_user, 1)

    with before_each(READ_STREAMS, write):
        found = changes.read_missed({user.pk: [None, 0, 1], other_user.pk: [None, 0, 1]})
    heads = {pk: {missed.position.head for (key, _), missed in found.items() if key == pk} for pk, _ in found}
    assert heads == {user.pk: {1}, other_user.pk: {2}}


def test_active_jobs_are_read_without_a_stream(user):
    """A user who has jobs and no notification yet has no stream."""
    job = rows.job(user)
    (missed,) = changes.read_missed({user.pk: [0]}).values()
    assert (missed.position.head, missed.position.guard) == (0, -1)
    assert [row.pk for row in changes.read_active_jobs(missed.versions).values()] == [job.pk]


def test_missed_changes_are_cut_after_200_rows(user):
    """Up to 200 rows are returned uncut, more are cut after 200, and a cursor 1,001 behind gets a reset."""
    rows.notices(user, 1001)
    found = changes.read_missed({user.pk: [0, 1, 800, 801]})
    assert found[user.pk, 0].reset
    assert not found[user.pk, 0].rows
    assert (seqs(found[user.pk, 1]), found[user.pk, 1].cut) == (list(range(2, 202)), True)
    assert (seqs(found[user.pk, 800]), found[user.pk, 800].cut) == (list(range(801, 1001)), True)
    assert (seqs(found[user.pk, 801]), found[user.pk, 801].cut) == (list(range(802, 1002)), False)


def test_cursor_above_the_head_or_below_the_floor_is_a_reset(user):
    """A cursor above the head or below the floor gets a reset; one at the floor does not."""
    rows.notices(user, 5)
    rows.prune(user.pk, 3)
    found = changes.read_missed({user.pk: [2, 3, 6]})
    assert [found[user.pk, cursor].reset for cursor in (2, 3, 6)] == [True, False, True]


def test_rows_pruned_during_the_read_cause_a_reset(user):
    """Rows that are pruned between two queries cause a reset, because the floor is read again after them."""
    rows.notices(user, 4)
    rows.finish(rows.job(user))

    def prune():
        Job.objects.all().delete()
        rows.prune(user.pk, 5)

    with before_each(READ_NEAR, prune):
        found = changes.read_missed({user.pk: [1, 4, 5]})
    assert [found[user.pk, cursor].reset for cursor in (1, 4, 5)] == [True, True, False]
    assert not found[user.pk, 1].rows


def test_rows_above_the_head_are_left_for_the_next_read(user):
    """A job that is retried between two queries is not returned: only rows up to the head of the first are."""
    rows.notices(user, 2)
    rows.finish(rows.job(user))
    job = rows.job(user)
    rows.finish(job, "failed")

    def write():
        rows.notices(user, 1)
        Job.objects.filter(pk=job.pk).update(seq=0, state="queued")

    with before_each(READ_NEAR, write):
        missed = changes.read_missed({user.pk: [0]})[user.pk, 0]
    assert (seqs(missed), missed.position.head, missed.reset) == ([1, 2, 3], 4, False)


def test_snapshot_ends_at_its_head(user):
    """A snapshot contains rows in the order of raised, without archived ones and those raised after the given head."""
    rows.notices(user, 3)
    rows.notices(user, 1, key="k")
    rows.notices(user, 1, key="k")
    assert [row.raised for row in changes.read_snapshots({user.pk: 5})[user.pk]] == [1, 2, 3]
    assert [row.raised for row in changes.read_snapshots({user.pk: 6})[user.pk]] == [1, 2, 3, 6]


def test_snapshots_of_several_users_take_one_query(user, other_user):
    """Snapshots of several users at different heads equal the single ones, and take one query."""
    rows.notices(user, 60)
    rows.notices(user, 1, key="k")
    rows.notices(user, 1, key="k")
    marking.mark(user.pk, "read", 30)
    marking.mark(user.pk, "archive", 20)
    rows.notices(other_user, 3)
    heads = {user.pk: 61, other_user.pk: 2, 12345: 0}
    with CaptureQueriesContext(connection) as queries:
        found = changes.read_snapshots(heads)
    assert len(queries) == 1
    assert found == {pk: changes.read_snapshots({pk: head})[pk] for pk, head in heads.items()}
    assert [len(found[pk]) for pk in heads] == [40, 2, 0]
    assert found[user.pk][0].raised == 21
    full = Stream.objects.get(pk=user.pk).head
    assert changes.read_snapshots({user.pk: full}) == {
        user.pk: changes.read_snapshots({user.pk: full})[user.pk]
    }


def test_active_jobs_are_the_100_queued_last(user, other_user):
    """The active jobs of each user are the 100 queued last, newest first, without finished ones."""
    created = rows.jobs(user, 105)
    rows.finish(created[-1])
    others = rows.jobs(other_user, 2)
    missed = changes.read_missed({user.pk: [None], other_user.pk: [0]})
    versions = {pk: found.versions for (pk, _), found in missed.items()}
    jobs = changes.read_active_jobs([id for versions_by_id in versions.values() for id in versions_by_id])
    assert [jobs[id].pk for id in versions[user.pk]] == [job.pk for job in created[-2:3:-1]]
    assert [jobs[id].pk for id in versions[other_user.pk]] == [others[1].pk, others[0].pk]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="parses SQLite's query plans")
def test_no_query_scans(user):
    """Each query of this module finds its rows by an index."""
    rows.notices(user, 3)
    rows.finish(rows.job(user))
    rows.job(user)
    with CaptureQueriesContext(connection) as queries:
        changes.read_missed({user.pk: [0]})
        changes._read_far(user.pk, 0, 4)
        changes.read_snapshots({user.pk: 4})[user.pk]
        changes.read_snapshots({user.pk: 4})
        changes.read_active_jobs(changes.read_missed({user.pk: [None]})[user.pk, None].versions)
    assert len(queries) >= 8
    with connection.cursor() as cursor:
        for query in queries:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plan = [row[3] for row in cursor.fetchall()]
            scans = [
                step
                for step in plan
                if step.startswith("SCAN")
                and not {"ranges", "positions", "active", "CONSTANT", "part"} & set(step.split())
            ]
            assert not scans, (query["sql"], plan)
