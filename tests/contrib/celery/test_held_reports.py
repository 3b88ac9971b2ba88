"""What waits for a hook of an extension that fails."""

import threading
import time

import pytest

from notifications.contrib.celery import held_reports
from notifications.jobs import Policy
from tests.contrib.celery.test_recorder import make_attempt, recorder, until_succeeded  # noqa: F401 (a fixture)
from tests.contrib.celery.test_recording import new_row
from tests.extension import faulty
from tests.support.outcomes import observer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_at_which_a_hook_fails(recorder, user, monkeypatch):  # noqa: F811
    """It is made again after longer and longer pauses, holds up no other call, and the worker's row has its hook."""
    counts = held_reports.open_counts()
    monkeypatch.setattr(held_reports, "of_worker", counts)
    tries, is_mended, ran = [], threading.Event(), threading.Event()

    def write(outcomes, tx):
        tries.append(time.monotonic())
        if not is_mended.is_set():
            raise RuntimeError("No.")

    faulty.install(monkeypatch, "on_ends", fault=write)
    row = new_row(user)
    observer.insert([row])
    recorder.call(lambda: observer.end(observer.failed_as(row, Policy(), "unknown-task")), wait=0)
    recorder.call(ran.set)
    assert ran.is_set()
    wait_until(lambda: len(tries) == 3, what="the third try", timeout=30)
    assert tries[1] - tries[0] >= 0.5 and tries[2] - tries[1] >= 1.0
    assert counts.read() == {"faulty.on_ends": 1}
    is_mended.set()
    wait_until(lambda: len(tries) == 4, what="the try that succeeds", timeout=30)
    recorder.call(lambda: None)
    assert counts.read() == {}


def test_an_attempt_at_which_a_hook_fails(recorder, user, monkeypatch):  # noqa: F811
    """It waits, and is recorded when the hook works again; others of its group are recorded meanwhile."""

    def fail(outcomes, tx):
        if any(outcome.job.title == "Bad" for outcome in outcomes):
            raise FileNotFoundError("No such file.")

    extension = faulty.install(monkeypatch, "on_ends", fault=fail)
    bad, good = make_attempt(user, title="Bad"), make_attempt(user)
    recorder.record(bad), recorder.record(good)
    until_succeeded(1)
    assert bad.held_until > time.monotonic() and (bad.held_by, bad.is_ended) == ("faulty.on_ends", False)
    extension.fault = None
    until_succeeded(2)
