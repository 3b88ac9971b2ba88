"""Jobs of tasks with a rate: they wait in the queue, by priority and turn, and begin when their limit allows it."""

from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from notifications.contrib.rates import rate
from notifications.contrib.rates.models import Limit, Release
from notifications.extension import Where
from notifications.jobs import HeldJobs, JobFilter, cancel, retry
from notifications.jobs.transitions import reaping
from notifications.models import Job
from notifications.testing import clock, run_jobs
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import release_due
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db


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


def rows(*results):
    return [Job.objects.get(id=result.id) for result in results]


def released():
    return list(
        Job.objects.filter(executor__in=["async", "sync", "quarantined"], state="queued").order_by(
            "turn", "id"
        )
    )


def test_they_are_held_until_their_limit_allows_them(declare, user):
    declare(partner={"rate": "60/m", "burst": 3})
    jobs = [rated_tasks.fetch.using(owner=user).enqueue() for _ in range(20)]
    (executor,) = {job.executor for job in rows(*jobs)}
    assert executor.startswith("held")
    assert not claim_rows(None, 10)
    release_due()
    first = released()
    assert [job.id for job in first] == [job.id for job in rows(*jobs)][: len(first)]
    assert 1 <= len(first) <= 4  # those of the next two seconds, and what is left of the burst
    release_due()
    assert released() == first  # none of them has begun
    limit = Limit.objects.get()
    assert (limit.key, limit.used, Release.objects.count()) == ("partner", 0, len(first))


def test_what_has_begun_is_counted(declare):
    declare(partner={"rate": "60/m", "burst": 1})
    for _ in range(10):
        rated_tasks.fetch.enqueue()
    release_due()
    begun = claim_rows(None, 10)
    assert len(begun) == len(Release.objects.all()) > 0
    release_due()
    assert Limit.objects.get().used == len(begun)
    with moved(minutes=1):
        release_due()
        assert released()


def test_a_cancelled_one_leaves_no_hole(declare, django_capture_on_commit_callbacks):
    declare(partner={"rate": "1/m", "burst": 1})
    first, second = [rated_tasks.fetch.enqueue() for _ in range(2)]
    release_due()
    assert [str(job.id) for job in released()] == [first.id]
    with django_capture_on_commit_callbacks(execute=True):
        cancel([UUID(first.id)])
    release_due()
    assert [str(job.id) for job in released()] == [second.id]
    assert Limit.objects.get().used == 0


def test_one_that_has_begun_meanwhile_is_not_held_again(declare):
    """And was queued again: it is at a later attempt than the one that was released."""
    declare(partner={"rate": "1/m", "burst": 1})
    rated_tasks.fetch.enqueue()
    release_due()
    (before,) = released()
    reaping.release_at_stop(claim_rows(None, 1), ())
    Job.objects.update(executor=before.executor)
    assert not HeldJobs.hold_again([before])
    (after,) = released()
    assert HeldJobs.hold_again([after]) == [after.id]


def test_priority_and_turn(declare, user, other_user):
    """Who has one job does not wait behind a hundred of somebody else; priority stands above turns."""
    declare(partner={"rate": "60/m", "burst": 1})
    [rated_tasks.fetch.using(owner=user).enqueue() for _ in range(20)]
    release_due()
    claim_rows(None, 10)
    other = rated_tasks.fetch.using(owner=other_user).enqueue()
    urgent = rated_tasks.fetch.using(owner=user, priority=5).enqueue()
    order = []
    for seconds in range(2, 22, 2):
        with moved(seconds=seconds):
            release_due()
            order += [str(job.id) for job in claim_rows(None, 10)]
    assert order[0] == urgent.id
    assert order.index(other.id) <= 3


def test_each_account_has_a_limit_of_its_own(declare):
    declare(partner={"rate": "1/m", "burst": 1})
    for account in "aabb":
        rated_tasks.fetch_of.enqueue(account)
    rated_tasks.fetch_with_context.enqueue("c")
    release_due()
    assert sorted(job.args for job in released()) == ['["a"]', '["b"]', '["c"]']
    assert set(Limit.objects.values_list("key", flat=True)) == {"partner:a", "partner:b", "partner:c"}


def test_a_retry_waits_too(declare, django_capture_on_commit_callbacks):
    declare(partner="60/m")
    result = rated_tasks.fail.enqueue()
    assert run_jobs() == 2  # tests of projects do not wait
    [job] = rows(result)
    assert job.state == "failed"
    with django_capture_on_commit_callbacks(execute=True):
        retry([job.id])
    [job] = rows(result)
    assert job.executor.startswith("held")


def test_what_a_lost_worker_ran_is_held_again(declare, live_worker):
    declare(partner="60/m")
    result = rated_tasks.fetch.enqueue()
    release_due()
    claim_rows(live_worker(-60), 10)
    run_duty("take jobs from lost workers")
    [job] = rows(result)
    assert (job.state, job.executor[:4]) == ("queued", "held")
    release_due()
    [job] = rows(result)
    assert job.executor == "quarantined"


def test_what_no_worker_takes_is_held_again_behind_the_others(declare):
    declare(partner={"rate": "1/m", "burst": 1})
    _, second = [rated_tasks.fetch.enqueue(name) for name in ("first", "second")]
    release_due()
    with moved(seconds=11):
        release_due()
        release_due()
        assert [str(job.id) for job in released()] == [second.id]


def test_what_was_released_by_a_fast_clock_is_held_again(declare):
    """It would use up the limit until the clock is there again."""
    declare(partner={"rate": "1/m", "burst": 1})
    _, second = [rated_tasks.fetch.enqueue(name) for name in ("first", "second")]
    with moved(hours=2):
        release_due()
    release_due()
    release_due()
    assert [str(job.id) for job in released()] == [second.id]


def test_a_key_at_its_limit_keeps_no_other_job(declare):
    declare(partner={"rate": "60/m", "burst": 1})
    [rated_tasks.one_at_a_time.enqueue() for _ in range(3)]
    release_due()
    assert len(claim_rows(None, 10)) == 1
    other = rated_tasks.fetch.enqueue()
    with moved(minutes=1):
        release_due()
        release_due()
        assert other.id in {str(job.id) for job in released()}


def test_filters_find_them(declare):
    declare(partner="1/m")
    jobs = [rated_tasks.fetch.enqueue() for _ in range(3)]
    found = JobFilter(state="queued").few_ids()
    assert sorted(map(str, found)) == sorted(job.id for job in jobs)


def test_a_queued_key_takes_the_limit_of_the_newest_call(declare):
    declare(partner="1/m")
    first, second = [rated_tasks.fetch_of.using(queued_key="one").enqueue(account) for account in "ab"]
    assert first.id == second.id
    release_due()
    assert Limit.objects.get().key == "partner:b"


def test_delayed_ones(declare):
    declare(partner="60/m")
    result = rated_tasks.fetch.using(run_after=clock.now() + timedelta(minutes=1)).enqueue()
    release_due()
    assert not released()
    with moved(minutes=2):
        run_duty("queue jobs that are due", Where.SERVER)
        release_due()
        assert [str(job.id) for job in released()] == [result.id]


def test_a_rate_that_is_not_declared_limits_nothing(declare):
    declare()
    result = rated_tasks.fetch_unknown.enqueue()
    release_due()
    assert [str(job.id) for job in released()] == [result.id]


@pytest.mark.django_db(transaction=True)
def test_a_worker_releases_and_runs_them(declare, worker, ran):
    declare(partner={"rate": "120/m", "burst": 4})
    jobs = [rated_tasks.fetch.enqueue(index) for index in range(12)]
    until_done(*jobs)
    assert sorted(ran) == list(range(12))
    wait_until(lambda: Limit.objects.get().used == 12, what="all of them to be counted")
    started = sorted(job.started_at for job in rows(*jobs))
    assert started[-1] - started[0] >= timedelta(seconds=2.5)  # 12 less 4, less those of 2 s, at two a second


def test_wrong_uses():
    with pytest.raises(TypeError, match="takes the name of a rate"):
        rate(5)
    with pytest.raises(ValueError, match="must begin with the name"):
        rate("{account}")
    with pytest.raises(ValueError, match="names 'shop'"):
        rate("partner:{shop}")(lambda account: None)
    with pytest.raises(TypeError, match="below @task"):
        rate("partner")(rated_tasks.fetch)


def test_another_extension_with_the_same_key(declare):
    """Its jobs are not those of the rate, which would release them."""
    declare(partner="60/m")
    (job,) = rows(rated_tasks.fetch_within_quota.enqueue())
    assert job.executor == f"held{rated_tasks.QUOTA.name_of('partner')}"
    rated_tasks.fetch.enqueue()
    release_due()
    assert [job.task_path for job in released()] == ["tests.contrib.rates.rated_tasks.fetch"]
