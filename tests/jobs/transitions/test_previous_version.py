"""Processes of the previous version change the same jobs during a rolling deploy (``FORMER_COLUMNS``).

The previous version is played by its statements: the assignments and conditions that it sends, of its columns only.
"""

from datetime import timedelta

import pytest

from notifications.db.clock import database_now
from notifications.engines.observed import batches, changes
from notifications.ids import uuid7
from notifications.jobs.transitions import batch_completion, manual, queueing, reaping
from notifications.jobs.transitions.claims import claim_jobs
from notifications.jobs.transitions.conditional_updates import conditional_update, with_former_columns
from notifications.models import Job
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VERSIONS = ("previous", "this")


@pytest.fixture
def now():
    return database_now()


def insert_observed(**fields):
    """Insert a queued job of an observed task with these columns."""
    moment = database_now()
    fields = {"task_path": "shop.tasks.export", "title": "Export", "queue_name": "celery", **fields}
    return Job.objects.create(lane="observed", created_at=moment, queued_at=moment, **fields)


def insert_batch(**fields):
    batch = batch_completion.new_batch(
        id=uuid7(),
        kwargs='{"notify": true}',
        backend="",
        queue_name="celery",
        lane="observed",
        title="Export",
        **fields,
    )
    batch.save(force_insert=True)
    return batch


def store_check(version, job, check_at, missing_since):
    if version == "this":
        changes.set_missing([job], missing_since, check_at)
    else:
        conditional_update("hand_over_at=%s, deadline=%s", [((missing_since, check_at), job)], state="queued")


def take_overdue(version, now, *brokers):
    """Return the ids of the jobs that a process of a version looks for, with since when each is missing."""
    if version == "this":
        jobs = changes.take_overdue(now, now + HOUR, 10, other_brokers=brokers)
        return {job.id: job.missing_since for job in jobs}
    rows = Job.objects.filter(lane="observed", state="queued", deadline__lt=now)
    jobs = list(rows.exclude(idempotency_hash__in=brokers).order_by("deadline", "id"))
    conditional_update("deadline=%s", [((now + HOUR,), job) for job in jobs], state="queued")
    return {job.id: job.hand_over_at for job in jobs}


def start_and_requeue(version, job, check_at):
    """Have a worker start an observed task, and give its message back."""
    if version == "this":
        Job.objects.filter(id=job.id).update(
            state="running",
            worker=uuid7(),
            fence=1,
            check_at=None,
            deadline=None,
            missing_since=None,
            hand_over_at=None,
        )
        job.refresh_from_db()
        changes.requeue(job, check_at)
    else:
        Job.objects.filter(id=job.id).update(
            state="running", worker=uuid7(), fence=1, deadline=None, hand_over_at=None
        )
        job.refresh_from_db()
        queueing.requeue([job], "deadline=%s, hand_over_at=NULL", (check_at,))


@pytest.mark.parametrize("reader", VERSIONS)
@pytest.mark.parametrize("first", VERSIONS)
@pytest.mark.parametrize("last", VERSIONS)
@pytest.mark.parametrize("was_due", [True, False])
@pytest.mark.parametrize("is_due", [True, False])
def test_last_check_counts(now, reader, first, last, was_due, is_due):
    """Whichever versions have stored when to look for a message, both read what was stored last."""
    job = insert_observed(deadline=now + HOUR / 2)
    store_check(first, job, now - 2 * HOUR if was_due else now + 2 * HOUR, None)
    missing_since = now - timedelta(seconds=9)
    store_check(last, job, now - HOUR if is_due else now + HOUR, missing_since)
    assert take_overdue(reader, now) == ({job.id: missing_since} if is_due else {})
    for version in VERSIONS:  # no other process looks for it at once
        assert take_overdue(version, now) == {}


@pytest.mark.parametrize("reader", VERSIONS)
@pytest.mark.parametrize("first", VERSIONS)
@pytest.mark.parametrize("last", VERSIONS)
@pytest.mark.parametrize("was_due", [True, False])
@pytest.mark.parametrize("is_due", [True, False])
def test_check_of_a_job_that_was_queued_again(now, reader, first, last, was_due, is_due):
    job = insert_observed(deadline=now + HOUR / 2)
    store_check(first, job, now - 2 * HOUR if was_due else now + 2 * HOUR, now - HOUR)
    start_and_requeue(last, job, now - HOUR if is_due else now + HOUR)
    assert take_overdue(reader, now) == ({job.id: None} if is_due else {})


@pytest.mark.parametrize("is_due", [True, False])
def test_check_of_a_job_that_the_previous_version_has_inserted(now, is_due):
    """The new column gets its time, also before it is due: the next version reads no other."""
    check_at = now - HOUR if is_due else now + HOUR / 2
    job = insert_observed(deadline=check_at, hand_over_at=now - HOUR)
    assert take_overdue("this", now) == ({job.id: now - HOUR} if is_due else {})
    job.refresh_from_db()
    assert (job.check_at, job.missing_since) == (now + HOUR if is_due else check_at, now - HOUR)


def test_check_that_the_next_version_has_stored(now):
    """It leaves the former columns empty."""
    due, later = (insert_observed(check_at=moment) for moment in (now - HOUR, now + HOUR))
    assert take_overdue("this", now) == {due.id: None}
    later.refresh_from_db()
    assert later.check_at == now + HOUR


@pytest.mark.parametrize("reader", VERSIONS)
@pytest.mark.parametrize("writer", VERSIONS)
def test_broker(now, writer, reader):
    """It is stored once. A job of another broker is left to its workers."""
    columns = {"idempotency_hash": "redis"} if writer == "previous" else with_former_columns(broker="redis")
    job = insert_observed(deadline=now - HOUR, **columns)
    assert take_overdue(reader, now, "redis") == {}
    assert take_overdue(reader, now, "amqp") == {job.id: None}


def is_open(version, batch, now):
    batch.refresh_from_db()
    if version == "this":
        return batch_completion._is_open(batch)
    return batch.deadline is not None and batch.deadline > now


def extend(version, batch, open_until):
    if version == "this":
        batches.extend(batch.id, open_until)
    else:
        conditional_update("deadline=%s", [((open_until,), batch)])


@pytest.mark.parametrize("reader", VERSIONS)
@pytest.mark.parametrize("first", VERSIONS)
@pytest.mark.parametrize("last", VERSIONS)
def test_extended_batch_is_open(now, reader, first, last):
    batch = insert_batch(deadline=now - 3 * HOUR)
    extend(first, batch, now - HOUR)
    assert not is_open(reader, batch, now)
    extend(last, batch, now + HOUR)
    assert is_open(reader, batch, now)


@pytest.mark.parametrize("reader", VERSIONS)
@pytest.mark.parametrize("first", VERSIONS)
def test_closed_batch(now, reader, first):
    batch = insert_batch()
    extend(first, batch, now + HOUR)
    batches.close(batch.id, count=1, total=1, title="Export")
    assert not is_open(reader, batch, now)


@pytest.mark.parametrize(("first", "is_late"), [("previous", False), ("this", True)])
def test_batch_that_the_previous_version_has_closed(now, first, is_late):
    """It ends for this version when the time is over that this version has stored: at most half a minute later."""
    batch = insert_batch()
    extend(first, batch, now + HOUR)
    conditional_update("deadline=NULL", [((), batch)])
    assert is_open("this", batch, now) is is_late
    Job.objects.filter(id=batch.id).update(open_until=now)
    assert not is_open("this", batch, now)


def requeue_unknown(version, fail_after=None):
    """Have a worker claim the job, and queue it again because its task is unknown. Returns when it fails."""
    before = Job.objects.get()
    [claimed] = claim_jobs(uuid7(), 1)
    if version == "this":
        if not queueing.requeue_unknown_task(claimed):
            return None
    else:
        # What the previous version reads from the row before its claim, if it is there.
        fail_after = before.deadline or fail_after
        again_at = database_now() + timedelta(seconds=queueing.REQUEUE_DELAY_SECONDS)
        queueing.requeue(
            [claimed.row], "attempt=attempt-1, deadline=%s, run_after=%s", (fail_after, again_at)
        )
    job = Job.objects.get()
    Job.objects.update(run_after=database_now() - timedelta(seconds=1))  # it is due again
    return job.fail_if_unknown_after if version == "this" else job.deadline


def test_unknown_task_fails_a_day_after_this_version_has_met_it(now):
    """What the previous version has stored does not count. What this one stores does for both."""
    tasks.noop.enqueue()
    assert requeue_unknown("previous", now + HOUR) == now + HOUR
    fails_at = requeue_unknown("this")
    assert fails_at >= now + DAY
    assert requeue_unknown("previous") == fails_at
    assert requeue_unknown("this") == fails_at


@pytest.mark.parametrize("retry", ["automatic", "by hand"])
def test_unknown_task_of_a_job_that_the_previous_version_has_tried_again(now, retry):
    """It does not clear the new column. The day begins anew."""
    tasks.noop.enqueue()
    requeue_unknown("this")
    Job.objects.update(fail_if_unknown_after=now - HOUR, deadline=now - HOUR)
    [claimed] = claim_jobs(uuid7(), 1)
    if retry == "automatic":
        run_after = database_now() - timedelta(seconds=1)
        assignments = "state='queued', run_after=%s, worker=NULL, deadline=NULL, version=version+1"
        conditional_update(assignments, [((run_after,), claimed.row)])
    else:
        conditional_update(
            "state='queued', seq=0, version=version+1, fence=fence+1, run_after=NULL, worker=NULL, deadline=NULL",
            [((), claimed.row)],
        )
    assert requeue_unknown("this") >= now + DAY


@pytest.mark.parametrize("requeue", ["release", "reap", "retry"])
def test_this_version_clears_when_an_unknown_task_fails(requeue):
    """As soon as a worker that knows the task queues the job again."""
    tasks.noop.enqueue()
    requeue_unknown("this")
    worker = uuid7()
    [claimed] = claim_jobs(worker, 1)
    if requeue == "release":
        queueing.release([claimed.row])
    elif requeue == "reap":
        Job.objects.update(max_attempts=9)
        reaping.reap_jobs([worker])
    else:
        Job.objects.update(state="failed")
        manual.retry([claimed.row.id])
    job = Job.objects.get()
    assert (job.state, job.fail_if_unknown_after, job.deadline) == ("queued", None, None)
