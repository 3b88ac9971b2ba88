"""A slot that stays free after a job of a queue has found the queue empty."""

import time

import pytest

from notifications.contrib.engines.drained_queues import FREE_SECONDS, MAX_QUEUES, DrainedQueues
from notifications.models import Job

KEY = ("default", "default")


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds) moves the monotonic clock on."""
    now = [100.0]

    def advance(seconds):
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return advance


def job(queue="default"):
    return Job(backend="default", queue_name=queue)


def test_slot_that_stays_free_after_a_job(clock):
    drained = DrainedQueues(1)
    with drained.occupy_slot():
        clock(5)
    drained.add(job())
    clock(FREE_SECONDS / 2)
    assert drained.take() == {}  # the next message may be on its way
    clock(FREE_SECONDS / 2)
    assert drained.take() == {KEY: FREE_SECONDS}


def test_time_does_not_move_on_while_the_process_is_idle(clock):
    """The engine may have lost its broker since."""
    drained = DrainedQueues(1)
    drained.add(job())
    clock(60)
    assert drained.take() == {KEY: 60}
    clock(60)
    assert drained.take() == {KEY: 120}


def test_pause_between_two_jobs_is_enough(clock):
    """Once: the queue may only have been slow."""
    drained = DrainedQueues(1)
    drained.add(job())
    clock(5)
    with drained.occupy_slot():
        clock(5)
        assert drained.take() == {KEY: 10}
        assert drained.take() == {}


def test_process_without_a_free_slot_knows_nothing(clock):
    drained = DrainedQueues(2)
    with drained.occupy_slot(), drained.occupy_slot():
        clock(1)
        drained.add(job())
        clock(60)
        assert drained.take() == {}
    with drained.occupy_slot():
        clock(60)
        assert drained.take() == {KEY: 120}


def test_messages_on_their_way_to_a_busy_process_are_not_lost(clock):
    drained = DrainedQueues(2)
    clock(10)
    drained.add(job())
    assert drained.take() == {KEY: FREE_SECONDS}


def test_few_queues_are_remembered(clock):
    drained = DrainedQueues(1)
    for number in range(MAX_QUEUES + 5):
        drained.add(job(str(number)))
    clock(10)
    assert {queue for _, queue in drained.take()} == {str(number) for number in range(5, MAX_QUEUES + 5)}
