"""What a worker may claim is known without a walk over all that it runs."""

from concurrent.futures import Future

import pytest

from notifications.ids import uuid7
from notifications.jobs.claiming.claimed_job import ClaimedJob, claim_of
from notifications.models import Job
from notifications.worker.capacity import MAX_WAITING_PER_SLOT, Capacity, Executions
from notifications.worker.execution import Execution, release_slot

pytestmark = pytest.mark.any_database


class UnwalkableExecutions(Executions):
    """Executions too many to be looked at one by one."""

    def walk(self, *args):
        raise AssertionError("All executions are walked.")

    __iter__ = keys = values = items = walk


@pytest.fixture
def executions():
    return UnwalkableExecutions()


@pytest.fixture
def capacity(executions):
    return Capacity(executions, slots=10, threads=3)


def start(executions, executor="async"):
    task_path = "bench.tasks.nothing_sync" if executor == "sync" else "bench.tasks.nothing"
    job = Job(id=uuid7(), task_path=task_path, executor=executor, fence=1)
    execution = Execution(ClaimedJob(job, None, None), lambda _: None, executions.add_joining)
    executions.add(execution)
    return execution


def test_each_executor_loses_what_runs_in_it(executions, capacity):
    start(executions)
    assert capacity.free() == {"async": 9, "sync": 3, "suspect": 1}
    sync = start(executions, "sync")
    assert capacity.free() == {"async": 8, "sync": 2, "suspect": 1}
    quarantined = start(executions, "suspect")
    assert capacity.free() == {"async": 7, "sync": 2}
    executions.remove(claim_of(quarantined.job))
    executions.remove(claim_of(sync.job))
    executions.remove(claim_of(sync.job))
    assert capacity.free() == {"async": 9, "sync": 3, "suspect": 1}


def test_a_job_that_waits_for_another_one_takes_no_place(executions, capacity):
    execution, other = start(executions, "sync"), uuid7()
    with release_slot(execution, Future(), other):
        assert capacity.free() == {"async": 10, "sync": 3, "suspect": 1}
        assert executions.joined_jobs() == {other}
        with release_slot(execution, Future(), uuid7()):
            assert len(executions.joined_jobs()) == 2
        assert capacity.free()["async"] == 10
    assert capacity.free() == {"async": 9, "sync": 2, "suspect": 1}
    assert executions.joined_jobs() == set()


def test_a_job_that_ends_while_it_waits_is_counted_once(executions, capacity):
    execution = start(executions)
    with release_slot(execution, Future(), uuid7()):
        executions.remove(claim_of(execution.job))
        assert capacity.free()["async"] == 10
    assert capacity.free()["async"] == 10


def test_too_many_waiting_jobs_are_noticed(executions, capacity):
    waiting = [release_slot(start(executions), Future(), uuid7()) for _ in range(MAX_WAITING_PER_SLOT * 10)]
    for wait in waiting:
        assert not capacity.has_many_waiting()
        wait.__enter__()
    assert capacity.has_many_waiting()
    waiting[0].__exit__(None, None, None)
    assert not capacity.has_many_waiting()
