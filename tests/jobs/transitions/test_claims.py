"""Claims: which jobs, in which order, and what they write."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.extension import Where
from notifications.jobs.transitions import claims
from notifications.management import pause_queue
from notifications.models import Job
from notifications.signals import rung
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db


def test_a_claim_writes_what_it_returns(live_worker):
    tasks.noop.enqueue()
    worker = live_worker()
    (job,) = claim_rows(worker, 1, timeouts={"tests.jobs.tasks.noop": 5})
    row = Job.objects.get(id=job.id)
    for name in ("state", "worker", "fence", "attempt", "version", "started_at", "deadline"):
        assert getattr(row, name) == getattr(job, name), name
    assert (row.state, row.worker, row.fence, row.attempt, row.version) == ("running", worker, 1, 1, 2)
    assert row.deadline - row.started_at == timedelta(seconds=65)
    assert claim_rows(worker, 10) == []


def test_claim_without_a_time_limit_has_no_deadline(live_worker):
    tasks.noop.enqueue()
    (job,) = claim_rows(live_worker(), 1, timeouts={"tests.jobs.tasks.noop": None})
    assert (job.deadline, Job.objects.get(id=job.id).deadline) == (None, None)


def test_claims_are_made_durable():
    """On SQLite they are already."""
    with CaptureQueriesContext(connection) as queries:
        claims.make_claims_durable()
    assert connection.vendor == "postgresql" or not queries


def test_a_claim_takes_no_more_than_its_limit(live_worker):
    for _ in range(5):
        tasks.noop.enqueue()
        tasks.noop.using(run_after=timezone.now() - timedelta(seconds=1)).enqueue()
    worker = live_worker()
    for limit, free in ((0, 1), (1, 0)):
        assert claim_rows(worker, limit, executors={"async": free}) == []
    assert len(claim_rows(worker, 3)) == 3
    assert Job.objects.filter(state="queued").count() == 7


def test_a_claim_reads_no_executor_without_jobs(live_worker, settings):
    """For each executor SQLite opens tables of its own, which took a third of the time of a claim."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"default": 9}}}}
    tasks.noop.enqueue()
    with CaptureQueriesContext(connection) as queries:
        (job,) = claim_rows(live_worker(), 5)
    claim = [query["sql"] for query in queries.captured_queries if "row_number()" in query["sql"]][-1]
    assert f"executor = '{job.executor}'" in claim
    assert claim.count("executor = '") == 1


@pytest.mark.parametrize("queue", ["default", "limited"])
def test_due_jobs_of_low_priority_do_not_hide_others(live_worker, settings, queue):
    """A job of low priority may wait for a long time. Jobs that become due after it must not wait for it."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"limited": 9}}}}
    ago = timezone.now() - timedelta(hours=1)
    plain = tasks.noop.using(queue_name=queue)
    plain.using(priority=-1, run_after=ago).enqueue()
    high = plain.using(priority=1, run_after=ago + timedelta(minutes=1)).enqueue()
    middle = plain.enqueue()
    worker = live_worker()
    assert [str(job.id) for _ in range(2) for job in claim_rows(worker, 1)] == [high.id, middle.id]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("condition", "round_trips"),
    [(None, 1), ("later", 1), ("paused", 3), ("elsewhere", 1), ("limited", 1)],
)
def test_a_claim_of_plain_jobs_is_one_round_trip(live_worker, settings, condition, round_trips):
    """It is three with a paused queue. The order is always by priority, then by age."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite is in the same process.")
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"limited": 9}}}}
    ago = timezone.now() - timedelta(seconds=5)
    late = tasks.noop.using(priority=-1).enqueue()
    other = tasks.noop.using(queue_name="reports", priority=9)
    if condition in ("paused", "elsewhere"):
        other.enqueue()
    if condition == "paused":
        pause_queue("reports")
    expected = [
        tasks.noop.using(priority=1, run_after=ago if condition == "later" else None).enqueue(),
        tasks.noop.enqueue(),
        tasks.noop.enqueue(),
    ]
    worker = live_worker()
    with CaptureQueriesContext(connection) as captured:
        jobs = claim_rows(worker, 3, queues=["default"] if condition == "elsewhere" else [])
    assert [str(job.id) for job in jobs] == [result.id for result in expected]
    assert len(captured) == round_trips
    assert Job.objects.get(id=late.id).state == "queued"


@pytest.mark.django_db(transaction=True)
def test_a_claim_rings_for_the_owners(live_worker, user):
    """Their pages then show that the job runs."""
    tasks.noop.using(owner=user).enqueue()
    tasks.noop.enqueue()
    rings = []

    def receive(users, **kwargs):
        rings.extend(users)

    rung.connect(receive)
    assert len(claim_rows(live_worker(), 3)) == 2
    assert rings == [user.pk]


@pytest.mark.django_db(transaction=True)
def test_concurrent_claims_share_no_job(live_worker):
    """Four workers claim concurrently; no job is claimed twice."""
    for _ in range(100):
        tasks.noop.enqueue()
    claimed = []

    def claim(worker):
        while jobs := claim_rows(worker, 7):
            claimed.extend(job.id for job in jobs)

    run_in_threads(*(partial(claim, live_worker()) for _ in range(4)))
    assert len(claimed) == len(set(claimed)) == 100


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "commit"), [("last attempt", "on"), ("attempt", "off"), ("join the queue", "off")]
)
def test_the_last_attempt_is_claimed_durably(live_worker, change, commit):
    """The commit of another one does not wait for the disk: PostgreSQL may lose it in a crash, and queue the job.

    Nor does that of a scheduled job that is due: it is scheduled again, and due.
    """
    if connection.vendor != "postgresql":
        pytest.skip("SQLite commits each transaction in the same way.")
    with connection.cursor() as cursor:
        # In the transaction of the claim, when it has changed the row, and so for the whole of it.
        cursor.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM set_config('tests.commit', current_setting('synchronous_commit'), false); "
            "RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON notifications_job "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()"
        )
        try:
            result = tasks.noop.enqueue()
            Job.objects.filter(id=result.id).update(max_attempts=1 if change == "last attempt" else 2)
            if change == "join the queue":
                Job.objects.update(due_at=timezone.now())
                run_duty("queue jobs that are due", Where.SERVER)
            else:
                assert len(claim_rows(live_worker(), 1)) == 1
            cursor.execute("SELECT current_setting('tests.commit'), current_setting('synchronous_commit')")
            assert cursor.fetchone() == (commit, "on")
        finally:
            cursor.execute("DROP FUNCTION note() CASCADE")
