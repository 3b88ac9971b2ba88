"""Where possible, outcomes are written together with their seq, not numbered by a later statement."""

import pytest
from django.db import connection

from notifications import times
from notifications.api import notify
from notifications.jobs import retry
from notifications.jobs.transitions import recording
from notifications.models import Job, Notification, Stream, uuid7
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, succeeded


@pytest.fixture
def statements():
    """A list of the SQL statements that the test executes."""
    executed = []

    def record(execute, sql, params, many, context):
        executed.extend(sql.split("; "))  # PostgreSQL gets several in one call.
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        yield executed


def finish(*jobs):
    stored, void = recording.record_outcomes([succeeded(job) for job in jobs])
    assert (len(stored), void) == (len(jobs), [])


def claim(user, count=1):
    for _ in range(count):
        tasks.noop.using(owner=user).enqueue()
    return claim_rows(uuid7(), count)


@pytest.mark.django_db(transaction=True)
def test_first_outcomes_are_written_by_one_statement(user, statements):
    jobs = claim(user, 3)
    statements.clear()
    finish(*jobs)
    assert sum(sql.startswith("UPDATE notifications_job") for sql in statements) == 1
    assert not any(sql.startswith("UPDATE notifications_notification") for sql in statements)
    assert [row.seq for row in Job.objects.order_by("id")] == [1, 2, 3]
    assert [(note.seq, note.raised, note.counted) for note in notifications_of(user)] == [
        (n, n, True) for n in (4, 5, 6)
    ]
    assert Stream.objects.values_list("head", "unread").get() == (6, 3)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("numbered", [True, False])
def test_a_notification_with_the_key_of_the_job_is_archived(user, numbered):
    """The notification of the finished job replaces it, also if it has no number yet."""
    (job,) = claim(user)
    (begun,) = notify(user, "begun", key=f"job:{job.id}")
    if not numbered:
        Notification.objects.filter(id=begun).update(seq=None, raised=None, counted=False)
        Stream.objects.update(unread=0)
    finish(job)
    assert [(note.title, note.archived_at is None) for note in notifications_of(user)] == [
        ("begun", False),
        ("Noop", True),
    ]
    assert Stream.objects.get(user=user).unread == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_read", [True, False])
def test_the_second_end_of_a_job(user, statements, is_read):
    """It is numbered in place, unless the notification of the first end is unread: a pass archives that one."""
    (job,) = claim(user)
    recording.record_outcomes([failed(job)])
    if is_read:
        Notification.objects.update(read_at=times.now(), counted=False)
        Stream.objects.update(unread=0, unseen=0)
    retry([job.id])
    (job,) = claim_rows(uuid7(), 1)
    statements.clear()
    finish(job)
    is_in_place = not any(sql.startswith("UPDATE notifications_notification") for sql in statements)
    first, second = notifications_of(user)
    assert (is_in_place, first.archived_at is None, second.archived_at) == (is_read, is_read, None)
    numbers = [Job.objects.get().seq, first.seq, second.seq]
    assert len(set(numbers)) == 3 and min(numbers[0], numbers[2]) > 2
    assert Stream.objects.values_list("head", "unread").get() == (max(numbers), 1)
