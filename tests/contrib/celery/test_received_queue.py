"""The recording process takes what has come through its pipe together, and waits for no more than that."""

import os
import pickle
import threading
import time
import uuid

import pytest

from notifications.jobs.declaring import observations
from notifications.jobs.declaring.observations import Observation
from notifications.models import Job

pytest.importorskip("celery", reason='Celery is not installed (pip install "celery[redis]").')

TASK = "shop.tasks.pay"


@pytest.fixture
def queue(pipe, monkeypatch):
    """A queue that gathers for minutes."""
    from notifications.contrib.celery import received_queue
    from notifications.contrib.celery.receiver import Receiver

    monkeypatch.setattr(observations, "_declared", {TASK: Observation()})
    monkeypatch.setattr(received_queue, "MAX_GATHER_SECONDS", 600)
    queue = received_queue.ReceivedQueue(pipe, Receiver(None, uuid.uuid4()))
    queue._ready_at = time.monotonic() + 600
    return queue


def send(pipe, number):
    id = str(uuid.uuid4())
    job = Job(id=id, task_path=TASK, title="Pay", executor="observed")
    start = (os.getpid(), float(number), 1, job, id, TASK, None, "celery", None, None)
    for kind, *values in (("begin",), ("finish", ("succeeded", "1"))):
        assert pipe.send(pickle.dumps((kind, start, None, *values)), 5)


def test_gathering_ends_when_nothing_more_comes(queue, pipe):
    send(pipe, 1)
    assert len(queue.take(5)) == 1


def test_what_comes_meanwhile_is_taken_together(queue, pipe, monkeypatch):
    monkeypatch.setattr("notifications.contrib.celery.received_queue.QUIET_SECONDS", 1)
    send(pipe, 1)
    sender = threading.Timer(0.2, send, (pipe, 2))
    sender.start()
    assert len(queue.take(5)) == 2
    sender.join()


def test_what_this_process_waits_for_does_not_gather(queue, pipe, monkeypatch):
    monkeypatch.setattr("notifications.contrib.celery.received_queue.QUIET_SECONDS", 600)
    send(pipe, 1)
    queue.put(lambda: None, done=threading.Event())
    assert len(queue.take(5)) == 2
