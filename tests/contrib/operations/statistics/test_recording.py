"""Each end of a job is counted once, in the transaction that records it."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications.api import batch
from notifications.contrib.operations.models import JobStatistics
from notifications.contrib.operations.statistics import Histogram, read_figures, read_totals
from notifications.contrib.operations.statistics.recording import BOUNDS_SECONDS, bucket_of
from notifications.jobs import cancel, retry
from notifications.models import Attempt, Job, Worker
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import record, succeeded
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db


def counted():
    """Return how many jobs and attempts the statistics count, by outcome."""
    sums = Counter()
    for total in read_totals():
        sums[total.outcome] += total.count
    return dict(sums)


def ended():
    """Return how many jobs are done, by state."""
    states = Job.objects.filter(state__in=("succeeded", "failed", "cancelled")).values_list(
        "state", flat=True
    )
    return dict(Counter(states))


def lost():
    """Return how many attempts lost their worker."""
    return Attempt.objects.filter(outcome="lost").count()


def claim(worker, count=1):
    return claim_rows(worker, count)


def lose(worker):
    Worker.objects.filter(id=worker).update(lease_until=timezone.now() - timedelta(hours=1))
    run_duty("take jobs from lost workers")


def succeed(worker):
    tasks.noop.enqueue()
    run_jobs()
    return {"succeeded": 1}


def fail(worker):
    tasks.fail.enqueue()
    run_jobs()
    return {"failed": 1}


def end_with_retry(worker):
    tasks.busy.enqueue(1)
    run_jobs()
    assert counted() == {"retried": 1}
    Job.objects.update(run_after=timezone.now(), due_at=timezone.now())
    run_jobs()
    return {"succeeded": 1, "retried": 1}


def cancel_queued(worker):
    tasks.noop.enqueue()
    cancel([Job.objects.get().id])
    return {"cancelled": 1}


def cancel_running(worker):
    tasks.noop.enqueue()
    (job,) = claim(worker)
    assert cancel([job.id]) == {job.id: "asked"}
    assert counted() == {}
    lose(worker)
    return {"cancelled": 1}


def lose_worker(worker):
    tasks.busy.enqueue(0)
    claim(worker)
    lose(worker)
    return {"lost": 1}


def lose_worker_in_last_attempt(worker):
    tasks.noop.enqueue()
    Job.objects.update(max_attempts=1)
    claim(worker)
    lose(worker)
    return {"failed": 1, "lost": 1}


def time_out(worker):
    tasks.slow.enqueue()
    run_jobs()
    return {"failed": 1, "timed_out": 1}


def time_out_and_retry(worker):
    tasks.slow_at_first.enqueue()
    run_jobs()
    return {"retried": 1, "timed_out": 1}


def end_batch(worker):
    with batch():
        tasks.noop.enqueue()
        tasks.fail.enqueue()
    run_jobs()
    return {"succeeded": 1, "failed": 2}


def retry_by_hand(worker):
    tasks.fail.enqueue()
    run_jobs()
    retry([Job.objects.get().id])
    run_jobs()
    return {"failed": 2}


WAYS = (
    *(
        succeed,
        fail,
        end_with_retry,
        cancel_queued,
        cancel_running,
        lose_worker,
        lose_worker_in_last_attempt,
        time_out,
    ),
    *(time_out_and_retry, end_batch, retry_by_hand),
)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_end_is_counted(way, live_worker):
    """Ends of jobs and attempts, whichever function of ``transitions/`` records them."""
    expected = way(live_worker())
    assert counted() == expected
    if way is not retry_by_hand:  # the job has ended twice
        assert {
            name: expected[name] for name in ("succeeded", "failed", "cancelled") if name in expected
        } == ended()
    assert expected.get("lost", 0) == lost()
    assert sum(total.enqueued for total in read_totals()) == sum(
        count for name, count in expected.items() if name in ("succeeded", "failed", "cancelled")
    )


def test_ends_of_owned_jobs_are_counted(user, live_worker):
    """Of an owner with a number in place, and of one whose numbering follows the rows."""
    for _ in range(2):
        tasks.noop.using(owner=user).enqueue()
    run_jobs()
    tasks.fail.using(owner=user).enqueue()
    run_jobs()
    assert counted() == {"succeeded": 2, "failed": 1}


def test_a_void_outcome_is_not_counted(live_worker):
    """Another worker has claimed the job."""
    tasks.noop.enqueue()
    (job,) = claim(live_worker())
    Job.objects.update(fence=7)
    record(succeeded(job))
    assert counted() == {}


def test_a_rolled_back_end_is_not_counted(live_worker):
    tasks.noop.enqueue()
    (job,) = claim(live_worker())
    with transaction.atomic():
        record(succeeded(job))
        transaction.set_rollback(True)
    assert counted() == {}
    assert Job.objects.get().state == "running"


def test_times_of_a_job(live_worker):
    """A job waits from when it is due, and runs from its last start."""
    tasks.noop.enqueue()
    (job,) = claim(live_worker())
    job.queued_at = job.started_at - timedelta(seconds=100)
    record(succeeded(job))
    tasks.of_reports.enqueue()
    (job,) = claim(live_worker())
    job.queued_at = job.started_at - timedelta(seconds=100)
    job.run_after = job.started_at - timedelta(seconds=3)
    record(succeeded(job))
    totals = {total.queue: total for total in read_totals()}
    for queue, seconds in (("default", 100), ("reports", 3)):
        wait = totals[queue].wait
        assert wait.total_seconds == seconds
        assert wait.counts[bucket_of(seconds * 1_000_000)] == wait.count == 1
        assert totals[queue].run.count == 1


def test_a_job_is_enqueued_in_its_minute(live_worker):
    """Its arrival and its end are counted in their own minutes."""
    tasks.noop.enqueue()
    (job,) = claim(live_worker())
    job.queued_at -= timedelta(minutes=30)
    record(succeeded(job))
    rows = JobStatistics.objects.order_by("start").values_list("count", "enqueued")
    assert list(rows) == [(0, 1), (1, 0)]
    (figures,) = read_figures(timedelta(minutes=5))
    assert (figures.enqueued, figures.succeeded) == (0, 1)


def test_each_connection_adds_to_rows_of_its_own(transactional_db, live_worker):
    """So no writer waits for another one, and none of their ends is lost."""
    worker = live_worker()
    for _ in range(60):
        tasks.noop.enqueue()
    jobs = claim(worker, 60)
    groups = [jobs[start::3] for start in range(3)]

    def end(group):
        for job in group:
            record(succeeded(job))

    run_in_threads(*(lambda group=group: end(group) for group in groups))
    assert counted() == {"succeeded": 60}
    assert len(set(JobStatistics.objects.values_list("shard", flat=True))) >= 3


def test_a_transaction_that_records_waits_for_no_other(transactional_db, live_worker):
    """While one transaction holds its row of the statistics, ends of the same task are recorded."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time.")
    for _ in range(2):
        tasks.noop.enqueue()
    first, second = claim(live_worker(), 2)
    with transaction.atomic():
        record(succeeded(first))
        run_in_threads(lambda: record(succeeded(second)))
    assert counted() == {"succeeded": 2}


def test_statistics_are_the_last_rows_that_are_written(live_worker, user, django_assert_num_queries):
    """They cost one statement for each row, and nothing is written after them."""
    tasks.noop.using(owner=user).enqueue()
    jobs = claim(live_worker())
    statements = []

    def note(execute, sql, params, many, context):
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        record(*map(succeeded, jobs))
    writes = [sql for sql in statements if "INSERT" in sql or "UPDATE notif" in sql]
    position = next(n for n, sql in enumerate(writes) if "jobstatistics" in sql)
    assert [sql for sql in writes[position + 1 :] if "notifications_ring" not in sql] == []
    assert writes[position].rindex("INSERT INTO") == writes[position].index(
        "INSERT INTO notifications_operations_jobstatistics"
    )


@pytest.mark.any_database
class TestBuckets:
    def test_a_time_is_within_the_bounds_of_its_bucket(self):
        for time in (
            0,
            1,
            999,
            1000,
            1001,
            2000,
            2001,
            4_000_000,
            10**12,
            *(2**n * 1000 + 1 for n in range(30)),
        ):
            number = bucket_of(time)
            assert number == len(BOUNDS_SECONDS) or time <= BOUNDS_SECONDS[number] * 1_000_000
            assert number == 0 or time > BOUNDS_SECONDS[number - 1] * 1_000_000

    def test_percentiles(self):
        counts = [0] * (len(BOUNDS_SECONDS) + 1)
        assert Histogram(counts).percentile(0.5) is None
        counts[3], counts[10] = 90, 10
        assert Histogram(counts).percentile(0.45) == pytest.approx(
            (BOUNDS_SECONDS[2] + BOUNDS_SECONDS[3]) / 2
        )
        assert Histogram(counts).percentile(0.9) == BOUNDS_SECONDS[3]
        assert BOUNDS_SECONDS[9] < Histogram(counts).percentile(0.95) < BOUNDS_SECONDS[10]
        assert Histogram(counts).percentile(1.0) == BOUNDS_SECONDS[10]
        counts[-1] = 100
        assert Histogram(counts).percentile(0.99) == BOUNDS_SECONDS[-1]
