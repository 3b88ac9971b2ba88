"""Jobs of tasks with a rate: a claim takes from their limit, and those that it does not allow wait in turn."""

from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction

from notifications.contrib.rates import rate
from notifications.contrib.rates.models import Limit
from notifications.extension import Where
from notifications.jobs import JobFilter, cancel, retry
from notifications.jobs.transitions import claims
from notifications.models import Job, LimitedQueue, Queue
from notifications.testing import clock, run_jobs
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import claim_all, open_limits
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import release
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.database_law]
WORKER = UUID(int=1)
ONE_AN_HOUR = {"rate": "1/h", "burst": 1}


@contextmanager
def moved(**ahead):
    """The clock of the database is ahead in the block."""
    before = clock.ahead
    clock.advance(timedelta(**ahead))
    try:
        yield
    finally:
        clock.ahead = before


@pytest.fixture(autouse=True)
def ran():
    rated_tasks.ran.clear()
    return rated_tasks.ran


def ids(rows):
    return [str(row.id) for row in rows]


def waiting():
    """Return the jobs that wait for a limit."""
    return Job.objects.filter(state="queued", due_at__isnull=False, limit_turn__isnull=False).order_by("id")


def in_queue():
    return Job.objects.filter(state="queued", due_at=None).order_by("turn", "id")


def enqueue(count, task=rated_tasks.fetch, **options):
    return [task.using(**options).enqueue() for _ in range(count)]


def test_a_claim_takes_what_the_limit_allows(declare, user):
    declare(partner={"rate": "60/m", "burst": 4})
    jobs = enqueue(20, owner=user)
    begun = claim_all()
    assert ids(begun) == [job.id for job in jobs[: len(begun)]] and len(begun) == 3
    assert waiting().count() == 17 and not in_queue().exists()
    assert Limit.objects.get().used == 3
    assert not claim_all()
    with moved(seconds=1.1):
        assert ids(claim_all()) == [jobs[3].id]
    with moved(hours=10):  # no more than a burst
        assert len(claim_all()) == 3
    assert Limit.objects.get().used == 7


def test_those_that_wait_are_in_nobodys_way(declare, user):
    declare(partner=ONE_AN_HOUR)
    enqueue(30, owner=user)
    plain = rated_tasks.plain.using(owner=user).enqueue()
    assert len(claim_all(limit=1)) == 1
    assert ids(claim_rows(None, 1)) == [plain.id]
    assert waiting().count() == 29


def test_a_cancelled_one_takes_nothing(declare, django_capture_on_commit_callbacks):
    declare(partner={"rate": "1/m", "burst": 1})
    jobs = enqueue(3)
    claim_all()
    with django_capture_on_commit_callbacks(execute=True):
        cancel([UUID(jobs[1].id)])
    with moved(minutes=1.1):
        assert ids(claim_all()) == [jobs[2].id]
    assert not LimitedQueue.objects.exists()


def test_shares_take_turns_and_priority_stands_above(declare, user, other_user):
    """Who has one job does not wait behind a hundred of somebody else."""
    declare(partner={"rate": "60/m", "burst": 1})
    enqueue(20, owner=user)
    claim_all()
    (other,) = enqueue(1, owner=other_user)
    (urgent,) = enqueue(1, owner=user, priority=5)
    claim_all()
    order = []
    for seconds in range(2, 14, 2):
        with moved(seconds=seconds):
            order += ids(claim_all())
    assert order[0] == urgent.id
    assert order.index(other.id) <= 2


def test_who_comes_later_does_not_pass_those_that_wait(declare, user, other_user):
    """Nor what has come back to the queue, and finds its limit closed again: it keeps its turn."""
    declare(partner={"rate": "60/m", "burst": 1})
    jobs = enqueue(6, owner=user)
    claim_all()
    with moved(seconds=2):
        (late,) = enqueue(1, owner=other_user)
        assert not claim_rows(WORKER, 10)  # it waits, although the limit is open
        open_limits()
        assert ids(in_queue()) == [jobs[1].id]
        Limit.objects.update(busy_until=Limit.objects.get().busy_until + 3_600_000_000)
        assert not claim_rows(WORKER, 10)
    with moved(hours=2):
        assert ids(claim_all()) == [jobs[1].id]
    with moved(hours=2, seconds=2):
        assert ids(claim_all())[0] in (jobs[2].id, late.id)


def test_what_waited_does_not_stand_behind_what_its_share_has_enqueued_since(declare, user):
    declare(partner={"rate": "1/m", "burst": 1})
    (_, first, _) = enqueue(3, owner=user)
    claim_all()
    enqueue(20, rated_tasks.plain, owner=user)
    with moved(minutes=1.1):
        assert first.id in ids(claim_all(limit=2))


def test_each_account_has_a_limit_of_its_own(declare):
    declare(partner={"rate": "1/m", "burst": 1})
    for account in "aabb":
        rated_tasks.fetch_of.enqueue(account)
    rated_tasks.fetch_with_context.enqueue("c")
    assert sorted(job.args for job in claim_all()) == ['["a"]', '["b"]', '["c"]']
    assert set(Limit.objects.values_list("key", flat=True)) == {"partner:a", "partner:b", "partner:c"}


def test_a_retry_counts_too(declare, django_capture_on_commit_callbacks):
    declare(partner={"rate": "60/m", "burst": 1})
    result = rated_tasks.fail.enqueue()
    assert run_jobs() == 2  # tests of projects do not wait
    with django_capture_on_commit_callbacks(execute=True):
        retry([UUID(result.id)])
    assert ids(claim_all()) == [result.id]
    assert Limit.objects.get().used == 1


def test_what_a_lost_worker_ran_counts_again(declare, live_worker):
    declare(partner={"rate": "60/m", "burst": 1})
    rated_tasks.fetch.enqueue()
    claim_all(live_worker(-60))
    run_duty("take jobs from lost workers")
    job = Job.objects.get()
    assert (job.state, job.executor) == ("queued", "quarantined")
    assert not claim_all()
    with moved(seconds=2):
        assert len(claim_all()) == 1


def test_what_a_worker_that_stops_returns_counts_again(declare):
    declare(partner={"rate": "60/m", "burst": 1})
    rated_tasks.fetch.enqueue()
    [job] = claim_all()
    release(job)
    assert not claim_all() and waiting().count() == 1


def test_a_key_at_its_limit_of_running_jobs_takes_nothing(declare, live_worker):
    """Tokens are taken last."""
    worker = live_worker()
    declare(partner={"rate": "60/m", "burst": 20})
    enqueue(3, rated_tasks.one_at_a_time)
    assert len(claim_all(worker)) == 1
    other = rated_tasks.fetch.enqueue()
    assert ids(claim_all(worker)) == [other.id]
    assert Limit.objects.get().used == 2


def test_a_paused_queue_takes_nothing_from_another(declare):
    declare(partner={"rate": "60/m", "burst": 1})
    paused = enqueue(5, queue_name="paused")
    claim_all()
    Queue.objects.create(name="paused", paused_at=clock.now())
    jobs = enqueue(3)
    for seconds in (2, 4, 6):
        with moved(seconds=seconds):
            assert len(claim_all()) == 1
    assert {job.id for job in jobs} == set(ids(Job.objects.filter(state="running", queue_name="default")))
    Queue.objects.update(paused_at=None)
    with moved(seconds=8):
        assert ids(claim_all()) == [paused[1].id]


def test_a_queue_that_no_worker_takes_takes_nothing_from_another(declare):
    declare(partner={"rate": "60/m", "burst": 1})
    enqueue(5, queue_name="other")
    enqueue(4)
    for seconds in range(0, 20, 2):
        with moved(seconds=seconds):
            open_limits()
            claim_rows(None, 10, queues=["default"])
    assert Counter(Job.objects.filter(state="running").values_list("queue_name", flat=True)) == {"default": 4}
    assert Job.objects.filter(queue_name="other", state="queued").count() == 5


def test_many_keys_of_one_user(declare, user, other_user):
    declare(partner=ONE_AN_HOUR)
    for account in range(50):
        for _ in range(2):
            rated_tasks.fetch_of.using(owner=user).enqueue(account)
    claim_all()
    other = tasks.noop.using(owner=other_user).enqueue()
    with moved(hours=1.1):
        open_limits()  # all of them at once, in a row for their user
        assert other.id in ids(claim_rows(None, 2))
        assert len(claim_rows(None, 100)) == 49


def test_filters_find_them(declare):
    declare(partner=ONE_AN_HOUR)
    jobs = enqueue(3)
    claim_all()
    assert len(JobFilter(state="queued").few_ids()) == 2 < len(jobs)


def test_a_queued_key_takes_the_limit_of_the_newest_call_and_keeps_its_turn(declare):
    declare(partner=ONE_AN_HOUR)
    first, second = [rated_tasks.fetch_of.using(queued_key="one").enqueue(account) for account in "ab"]
    assert first.id == second.id
    rated_tasks.fetch_of.enqueue("b")
    jobs = [rated_tasks.fetch_of.using(queued_key=key).enqueue("b") for key in ("two", "three")]
    assert len(claim_all()) == 1
    rated_tasks.fetch_of.using(queued_key="two").enqueue("b")
    claim_all()
    with moved(hours=1.1):
        claim_all()
    with moved(hours=2.2):
        assert ids(claim_all()) == [jobs[0].id]


def test_scheduled_ones(declare):
    declare(partner="60/m")
    result = rated_tasks.fetch.using(run_after=clock.now() + timedelta(minutes=1)).enqueue()
    assert not claim_all() and not waiting()
    with moved(minutes=2):
        run_duty("queue jobs that are due", Where.SERVER)
        assert ids(claim_all()) == [result.id]


def test_a_limit_that_cannot_be_read_stops_no_other_job(declare, caplog, forgotten_log):
    declare(partner="60/m")
    rated_tasks.fetch.enqueue()
    plain = rated_tasks.plain.enqueue()
    with refused("notifications_rates_limit", error=ZeroDivisionError):
        assert ids(claim_all()) == [plain.id]
    assert "Hook failed and was left out: notifications_rates.allow_starts" in caplog.text
    with moved(seconds=6):
        assert len(claim_all()) == 1


def test_jobs_that_something_else_holds_back_keep_no_place(declare):
    """Those with a busy concurrency key join the queue, and do not begin: the others of the rate do."""
    declare(partner={"rate": "60/m", "burst": 4})
    for _ in range(3):
        rated_tasks.fetch.enqueue()
    claim_all(WORKER)
    for _ in range(6):
        rated_tasks.one_at_a_time.enqueue()
    claim_rows(WORKER, 10)
    for _ in range(10):
        rated_tasks.fetch.enqueue()
    claim_rows(WORKER, 10)
    for minute in range(1, 8):
        with moved(minutes=minute):
            for _ in range(3):
                claim_all(WORKER, 10)
    waiting = Job.objects.filter(state="queued").values_list("task_path", flat=True)
    assert set(waiting) == {rated_tasks.one_at_a_time.module_path}


@pytest.mark.django_db(transaction=True)
def test_a_worker_runs_them(declare, worker, ran):
    declare(partner={"rate": "120/m", "burst": 4})
    jobs = [rated_tasks.fetch.enqueue(index) for index in range(12)]
    until_done(*jobs)
    assert sorted(ran) == list(range(12))
    wait_until(lambda: Limit.objects.get().used == 12, what="all of them to be counted")
    started = sorted(Job.objects.values_list("started_at", flat=True))
    assert started[-1] - started[0] >= timedelta(seconds=4)  # 12 less a burst, at two a second


@pytest.mark.django_db(transaction=True)
def test_a_start_that_is_late_goes_back(declare, worker):
    """Over a second after its claim its limit does not count it any more. It is the next one."""
    declare(partner={"rate": "60/m", "burst": 6})
    with transaction.atomic():  # they are claimed together, in this order
        rated_tasks.block.using(priority=5).enqueue()
        late = rated_tasks.fetch_of.enqueue("late")
    (job,) = until_done(late)
    assert (job.state, job.attempt) == ("succeeded", 1)
    assert Limit.objects.get().used == 2


def test_starts_that_no_limit_counts_are_never_late(declare):
    """As of a task whose rate is declared no more."""
    declare(partner="60/m")
    rated_tasks.fetch.enqueue()
    rated_tasks.fetch_of.enqueue("a")
    assert [claimed.start_by is not None for claimed in claims.claim_jobs(WORKER, 1)] == [True]
    declare()
    assert [claimed.start_by for claimed in claims.claim_jobs(WORKER, 1)] == [None]


def test_wrong_uses():
    with pytest.raises(TypeError, match="takes the name of a rate"):
        rate(5)
    with pytest.raises(ValueError, match="must begin with the name"):
        rate("{account}")
    with pytest.raises(ValueError, match="names 'shop'"):
        rate("partner:{shop}")(lambda account: None)
    with pytest.raises(TypeError, match="below @task"):
        rate("partner")(rated_tasks.fetch)
    with pytest.raises(TypeError, match="two limits"):
        rate("partner")(rated_tasks.fetch.func)
