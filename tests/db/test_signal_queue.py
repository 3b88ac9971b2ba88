"""The queue of signals. tests/worker/test_signal_queue.py tests it in workers."""

import threading

import pytest

from notifications.db import signal_queue
from notifications.worker import SignalQueue
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_memory_of_the_queue_is_bounded(caplog, monkeypatch):
    """Calls that exceed the limit are dropped and counted; later ones are queued when there is room again."""
    monkeypatch.setattr(signal_queue, "MAX_QUEUED_BYTES", 10 * signal_queue.BYTES_PER_JOB)
    queue, done, gate = SignalQueue(), [], threading.Event()
    try:
        queue.put(gate.wait, 2, 0)
        for number in range(20):
            queue.put(lambda number=number: done.append(number), 1, 0)
        queue.put(lambda: done.append("large"), 1, 10**9)
        gate.set()
        wait_until(lambda: done == list(range(8)), what="the queued calls")
        wait_until(lambda: not queue._queued_jobs, what="the queue to be empty")
        queue.put(lambda: done.append("later"), 1, 0)
        wait_until(lambda: done[-1] == "later", what="the later call")
    finally:
        gate.set()
        queue.end()
    assert "Dropping signals, receivers are too slow; jobs whose signals wait: 10" in caplog.text
    assert "Dropped the signals of 13 jobs" in caplog.text


def test_outside_a_worker_signals_are_sent_immediately():
    """For example in a request that cancels a job."""
    done = []
    signal_queue.send_later(lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]
