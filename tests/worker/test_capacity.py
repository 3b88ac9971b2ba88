"""What a worker may claim is known without a walk over all that it runs."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from notifications.models import Job, uuid7
from notifications.worker import Execution
from notifications.worker.capacity import (
    MAX_EMAIL_THREADS,
    MAX_SENDERS,
    MAX_WAITING_PER_SLOT,
    Capacity,
    Executions,
    exhausted_executors,
)
from notifications.worker.joining import release_slot

pytestmark = pytest.mark.any_database


TASKS = {
    "sync": "bench.tasks.nothing_sync",
    "email": "notifications.contrib.deliveries.sending.deliver",
    "sender": "notifications.contrib.webhooks.sending.send",
}
#: What nothing of the project takes.
SENDERS = {"sender": MAX_SENDERS, "email": MAX_EMAIL_THREADS}


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
    task_path = TASKS.get(executor, "bench.tasks.nothing")
    job = Job(id=uuid7(), task_path=task_path, executor=executor, fence=1)
    execution = Execution(
        SimpleNamespace(row=job, owner=None, task_result=None), lambda _: None, executions.add_joining
    )
    executions.add(execution)
    return execution


def end(executions, execution):
    executions.remove((execution.job.id.int, execution.job.fence))


def test_each_executor_loses_what_runs_in_it(executions, capacity):
    start(executions)
    assert capacity.free() == {"async": 9, "sync": 3, "quarantined": 1, **SENDERS}
    sync = start(executions, "sync")
    assert capacity.free() == {"async": 8, "sync": 2, "quarantined": 1, **SENDERS}
    quarantined = start(executions, "quarantined")
    assert capacity.free() == {"async": 7, "sync": 2, **SENDERS}
    end(executions, quarantined)
    end(executions, sync)
    end(executions, sync)
    assert capacity.free() == {"async": 9, "sync": 3, "quarantined": 1, **SENDERS}


def test_senders_take_nothing_of_the_projects_jobs(executions):
    """Not even where the project has one slot: each executor of them has places of its own."""
    capacity = Capacity(executions, slots=1, threads=1)
    for _ in range(MAX_SENDERS):
        start(executions, "sender")
    emails = [start(executions, "email") for _ in range(MAX_EMAIL_THREADS)]
    assert capacity.free() == {"async": 1, "sync": 1, "quarantined": 1}
    end(executions, emails[0])
    start(executions)
    assert capacity.free() == {"email": 1}
    assert exhausted_executors(capacity.free(), []) == {"async", "sync", "quarantined", "sender"}
    assert exhausted_executors(capacity.free(), [emails[0].job]) == {
        *("async", "sync", "quarantined"),
        *("sender", "email"),
    }


def test_a_job_that_waits_for_another_one_takes_no_place(executions, capacity):
    execution, other = start(executions, "sync"), uuid7()
    with release_slot(execution, Future(), other):
        assert capacity.free() == {"async": 10, "sync": 3, "quarantined": 1, **SENDERS}
        assert executions.joined_jobs() == {other}
        with release_slot(execution, Future(), uuid7()):
            assert len(executions.joined_jobs()) == 2
        assert capacity.free()["async"] == 10
    assert capacity.free() == {"async": 9, "sync": 2, "quarantined": 1, **SENDERS}
    assert executions.joined_jobs() == set()


def test_a_job_that_ends_while_it_waits_is_counted_once(executions, capacity):
    execution = start(executions)
    with release_slot(execution, Future(), uuid7()):
        end(executions, execution)
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
