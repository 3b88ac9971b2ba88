"""Reading: positions, what was missed, snapshots, active jobs; in few queries, by indexes."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.models import Stream
from notifications.streams import changes, inbox
from tests.realtime import rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def seqs(missed):
    return [row.seq for row in missed.rows]


def test_a_stream_that_does_not_exist_is_at_nought(user):
    """Nobody has to make one first."""
    assert changes.position(user.pk) == changes.Position(head=0, floor=0, unread=0, guard=-1)


def test_the_position_has_head_and_unread_of_one_moment(user):
    """In one query."""
    rows.notices(user, 3)
    inbox.mark(user.pk, "read", 1)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert changes.position(user.pk) == changes.Position(head=4, unread=2)
    assert len(queries) == 1


def test_each_cursor_of_each_user_gets_what_followed_it(user, other_user):
    """Several cursors of one user, and several users, in four queries."""
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
    assert len(queries) == 4


def test_nothing_new_costs_one_query(user):
    """Most looks find that somebody is where the stream is."""
    rows.notices(user, 1)
    with CaptureQueriesContext(connection) as queries:
        assert seqs(changes.read_missed({user.pk: [1]})[user.pk, 1]) == []
    assert len(queries) == 1


def test_at_most_two_hundred_rows_are_kept_and_the_cut_is_told(user):
    """Exactly 200 are not cut, 201 are; 1,001 behind is a reset."""
    rows.notices(user, 1001)
    found = changes.read_missed({user.pk: [0, 1, 800, 801]})
    assert found[user.pk, 0].reset
    assert not found[user.pk, 0].rows
    assert (seqs(found[user.pk, 1]), found[user.pk, 1].cut) == (list(range(2, 202)), True)
    assert (seqs(found[user.pk, 800]), found[user.pk, 800].cut) == (list(range(801, 1001)), True)
    assert (seqs(found[user.pk, 801]), found[user.pk, 801].cut) == (list(range(802, 1002)), False)


def test_a_cursor_above_the_head_or_below_the_floor_is_a_reset(user):
    """Not followed, and no rows are read for it."""
    rows.notices(user, 5)
    rows.prune(user.pk, 3)
    found = changes.read_missed({user.pk: [2, 3, 6]})
    assert [found[user.pk, cursor].reset for cursor in (2, 3, 6)] == [True, False, True]


def test_what_is_pruned_while_it_is_read_is_a_reset(user, monkeypatch):
    """The floor is read again after the rows, so nothing is skipped silently."""
    rows.notices(user, 5)
    near = changes._read_near

    def prune_first(*args):
        rows.prune(user.pk, 3)
        return near(*args)

    monkeypatch.setattr(changes, "_read_near", prune_first)
    found = changes.read_missed({user.pk: [1, 4]})
    assert found[user.pk, 1].reset
    assert seqs(found[user.pk, 4]) == [5]


def test_what_moves_past_the_head_meanwhile_is_left_for_the_next_read(user, monkeypatch):
    """Rows up to the head that was read first, never one above it."""
    rows.notices(user, 3)
    near = changes._read_near

    def write_first(*args):
        rows.notices(user, 1)
        inbox.mark(user.pk, "read", 1)
        return near(*args)

    monkeypatch.setattr(changes, "_read_near", write_first)
    missed = changes.read_missed({user.pk: [0]})[user.pk, 0]
    assert (seqs(missed), missed.position.head) == ([2, 3], 3)


def test_a_snapshot_ends_at_its_head(user):
    """By raised, ascending; archived ones and those raised later are left out."""
    rows.notices(user, 3)
    rows.notices(user, 1, key="k")
    rows.notices(user, 1, key="k")
    assert [row.raised for row in changes.read_snapshot(user.pk, 5)] == [1, 2, 3]
    assert [row.raised for row in changes.read_snapshot(user.pk, 6)] == [1, 2, 3, 6]


def test_snapshots_of_many_users_are_those_of_each(user, other_user):
    """At heads of their own, in one query for 20 users; without one where nothing was numbered yet."""
    rows.notices(user, 60)
    rows.notices(user, 1, key="k")
    rows.notices(user, 1, key="k")
    inbox.mark(user.pk, "read", 30)
    inbox.mark(user.pk, "archive", 20)
    rows.notices(other_user, 3)
    heads = {user.pk: 61, other_user.pk: 2, 12345: 0}
    with CaptureQueriesContext(connection) as queries:
        found = changes.read_snapshots(heads)
    assert len(queries) == 1
    assert found == {pk: changes.read_snapshot(pk, head) for pk, head in heads.items()}
    assert [len(found[pk]) for pk in heads] == [40, 2, 0]
    assert found[user.pk][0].raised == 21
    full = changes.position(user.pk).head
    assert changes.read_snapshots({user.pk: full}) == {user.pk: changes.read_snapshot(user.pk, full)}


def test_who_waits_for_a_number_is_found(user, other_user):
    """Only those, of both kinds of rows."""
    inbox.build_notification(user.pk, "left").save()
    assert changes.find_unnumbered_users([user.pk, other_user.pk]) == [user.pk]
    streams.number([user.pk])
    assert changes.find_unnumbered_users([user.pk, other_user.pk]) == []


def test_active_jobs_are_the_hundred_queued_last(user, other_user):
    """Newest first, of each user; finished ones are not among them."""
    made = rows.jobs(user, 105)
    rows.finish(made[-1])
    theirs = rows.jobs(other_user, 2)
    versions = changes.read_active_versions([user.pk, other_user.pk])
    jobs = changes.read_active_jobs([id for mine in versions.values() for id in mine])
    assert [jobs[id].pk for id in versions[user.pk]] == [job.pk for job in made[-2:3:-1]]
    assert [jobs[id].pk for id in versions[other_user.pk]] == [theirs[1].pk, theirs[0].pk]


def test_sums_move_with_every_change_of_an_active_job(user):
    """So that the position check sees what no ring told."""
    assert changes.read_active_sums([user.pk]) == {}
    job = rows.job(user)
    first = changes.read_active_sums([user.pk])
    rows.change(job, progress_current=1)
    second = changes.read_active_sums([user.pk])
    rows.job(user)
    third = changes.read_active_sums([user.pk])
    assert (first, second, third) == ({user.pk: (1, 1)}, {user.pk: (1, 2)}, {user.pk: (2, 3)})


def test_inside_a_transaction_the_callers_own_rows_are_seen(user):
    """Reading uses the connection of the thread."""
    with transaction.atomic():
        Stream.objects.create(pk=user.pk, head=7)
        assert changes.position(user.pk).head == 7


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the plan is read as SQLite tells it")
def test_no_query_scans(user):
    """Each finds its rows by an index, however many others there are."""
    rows.notices(user, 3)
    rows.finish(rows.job(user))
    rows.job(user)
    with CaptureQueriesContext(connection) as queries:
        changes.read_missed({user.pk: [0]})
        changes._read_far(user.pk, 0, 4)
        changes.read_snapshot(user.pk, 4)
        changes.read_snapshots({user.pk: 4})
        changes.find_unnumbered_users([user.pk])
        changes.read_active_jobs(changes.read_active_versions([user.pk])[user.pk])
        changes.read_active_sums([user.pk])
    assert len(queries) > 10
    with connection.cursor() as cursor:
        for query in queries:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plan = [row[3] for row in cursor.fetchall()]
            scans = [
                step
                for step in plan
                if step.startswith("SCAN") and not {"ranges", "CONSTANT", "part"} & set(step.split())
            ]
            assert not scans, (query["sql"], plan)
