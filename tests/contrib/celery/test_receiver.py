"""Each start and end that child processes send is recorded once, whatever comes twice or too late."""

import os
import subprocess
import sys
import threading
import time
import uuid
from types import SimpleNamespace

import pytest

from notifications.jobs.declaring import observations
from notifications.jobs.declaring.observations import Observation
from notifications.models import Job
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason='Celery is not installed (pip install "celery[redis]").')

TASK = "shop.tasks.pay"
SUCCESS = ("succeeded", "1")


@pytest.fixture
def receiver():
    from notifications.contrib.celery.receiver import Receiver

    receiver = Receiver(None, uuid.uuid4())
    yield receiver
    receiver.wait(10)


@pytest.fixture
def observe(monkeypatch):
    """observe(**options) observes the task."""
    monkeypatch.setattr(observations, "_declared", {TASK: Observation()})
    return lambda **options: observations.declare(TASK, Observation(**options))


@pytest.fixture
def recorded(monkeypatch):
    """What is recorded by other threads than the one that takes."""
    from notifications.contrib.celery import receiver

    class Recorder:
        attempts = ()

        def record(self, attempt):
            self.attempts = (*self.attempts, attempt)

        def forget(self, attempt):
            pass

    recorder = Recorder()
    monkeypatch.setattr(receiver, "recorder", lambda: recorder)
    return recorder


def start(started_at=1.0, pid=None, user_id=None):
    id = str(uuid.uuid4())
    job = Job(id=id, task_path=TASK, user_id=user_id, title="Pay", executor="observed")
    return (pid or os.getpid(), started_at, 1, job, id, TASK, None, "celery", None, None)


@pytest.mark.usefixtures("observe")
def test_start_and_end_that_come_together_are_one(receiver):
    task = start()
    receiver.receive("begin", task, None)
    receiver.receive("finish", task, None, SUCCESS)
    [attempt] = receiver.take()
    assert attempt.outcome(attempt.job).state == "succeeded"


@pytest.mark.usefixtures("observe")
def test_end_whose_start_a_killed_process_has_taken(receiver):
    receiver.receive("finish", start(), None, SUCCESS)
    [attempt] = receiver.take()
    assert (attempt.number, attempt.outcome(attempt.job).result) == (1, "1")


@pytest.mark.usefixtures("observe")
@pytest.mark.parametrize(("kind", "values"), [("finish", (SUCCESS,)), ("store_progress", ()), ("begin", ())])
def test_message_after_the_end_has_no_effect(receiver, kind, values):
    """A time limit interrupted the task that had sent it, or a thread of the task sent its progress late."""
    task = start()
    receiver.receive("finish", task, None, SUCCESS)
    assert len(receiver.take()) == 1
    receiver.receive(kind, task, (1, 2, "late"), *values)
    assert (receiver.take(), receiver._attempts) == ([], {})
    receiver.receive("begin", start(started_at=2.0), None)
    assert len(receiver.take()) == 1


@pytest.mark.usefixtures("observe")
def test_progress_comes_with_the_end(receiver):
    task = start()
    receiver.receive("begin", task, None)
    receiver.receive("finish", task, (3, 10, "third"), SUCCESS)
    [attempt] = receiver.take()
    job = attempt.job
    assert (job.progress_current, job.progress_total, job.progress_message) == (3, 10, "third")


@pytest.mark.usefixtures("observe")
def test_tasks_of_ended_processes_are_forgotten(receiver):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    receiver.receive("begin", start(pid=ended.pid), None)
    receiver.receive("begin", start(), None)
    receiver.forget_ended_processes()
    assert [pid for pid, _ in receiver._attempts] == [os.getpid()]


def test_slow_notify_functions_hold_up_no_record(receiver, observe, recorded, caplog, monkeypatch):
    """Others are recorded meanwhile, and when too many wait, with the default notification."""
    from notifications.contrib.celery import receiver as module

    monkeypatch.setattr(module, "MAX_OPEN_CALLS", 2)
    gate = threading.Event()
    observe(notify=lambda end: gate.wait(10) and {"title": "Paid"})
    for number in range(3):
        receiver.receive("finish", start(started_at=number + 1.0, user_id=7), None, SUCCESS)
        *started, last = [work for work in receiver.take() if getattr(work, "outcome", None)] or [None]
        assert not started
        assert bool(last) == (number == 2)
    assert last.outcome.notification.title == "Pay"
    assert "Notify functions are too slow, not called for 1 jobs" in caplog.text
    gate.set()
    wait_until(lambda: len(recorded.attempts) == 2, what="the calls to return")
    assert {attempt.outcome.notification.title for attempt in recorded.attempts} == {"Paid"}


@pytest.mark.django_db
def test_locked_row_is_tried_again_however_late_it_is_taken(receiver, observe, monkeypatch, caplog):
    """As by a process that was suspended: the time begins when the row is first found locked."""
    from notifications.contrib.celery import receiver as module

    observe()
    later, locked = [], iter([True, False])
    now = time.monotonic()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now, sleep=lambda seconds: None))
    queue = SimpleNamespace(forget=lambda attempt: None, call=lambda end, wait: later.append(end))
    monkeypatch.setattr(module, "recorder", lambda: queue)
    monkeypatch.setattr(module.recording, "record_or_refuse", lambda attempts: attempts * next(locked))
    receiver.receive("requeue", start(), None, None)
    [_, end] = receiver.take()
    now += module.MAX_LOCKED_SECONDS + 1
    end()
    assert later == [end]
    end()
    assert "its row is locked" not in caplog.text
