"""Sending the ids of committed jobs, beside engines that do not answer."""

import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from notifications.api import batch
from notifications.contrib import engines
from notifications.contrib.engines import dispatch_loop, senders
from notifications.contrib.engines.interface import JobsRefused
from notifications.jobs.transitions import manual
from notifications.models import Job
from tests.jobs import tasks
from tests.support.waiting import wait_until

BACKEND = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}


@pytest.fixture
def sending(with_engine, monkeypatch, transactional_db):
    """Ids are sent, in this test only."""
    monkeypatch.setattr(senders, "enabled_in_tests", True)
    own = {}
    monkeypatch.setattr(senders, "_senders", own)
    yield with_engine
    # A thread that stores a failed call would wait for the rows that are deleted after the test, and these for it.
    wait_until(lambda: not any(sender._unsent for sender in own.values()), what="the senders of the test")


def sent_ids(engine):
    return [str(job.id) for job in engine.dispatched]


def wait_for_idle_senders():
    """Wait until a failed call has been handled: a job that comes before is postponed without a call."""

    def has_unsent_ids():
        return any(sender._unsent for sender in senders._senders.values())

    wait_until(lambda: not has_unsent_ids(), what="the senders")


def test_id_is_sent_after_the_commit(sending):
    with transaction.atomic():
        id = tasks.noop.enqueue().id
        tasks.noop.using(backend="builtin").enqueue()
        assert sending.dispatched == []
    wait_until(lambda: sent_ids(sending) == [id], what="the id")


def test_id_of_a_rolled_back_job_is_not_sent(sending):
    with transaction.atomic():
        tasks.noop.enqueue()
        transaction.set_rollback(True)
    id = tasks.noop.enqueue().id
    wait_until(lambda: sent_ids(sending) == [id], what="the id")


def test_jobs_of_a_batch_are_sent(sending):
    with batch() as jobs:
        ids = [tasks.noop.enqueue().id for _ in range(3)]
    wait_until(lambda: sent_ids(sending) == ids, what="the ids")
    assert jobs.result.id not in sent_ids(sending)


def test_engine_learns_of_a_job_what_it_needs(sending):
    id = tasks.slow.using(priority=7, queue_name="reports").enqueue().id
    wait_until(lambda: sending.dispatched, what="the id")
    (job,) = sending.dispatched
    assert (job.task_path, job.queue_name, job.priority) == ("tests.jobs.tasks.slow", "reports", 7)
    assert (job.timeout.total_seconds(), job.message_id) == (0.2, f"{id}.0")


def test_cancelled_job_is_revoked(sending):
    """And a retry by hand is another message, which the revocation does not concern."""
    id = tasks.noop.enqueue().id
    wait_until(lambda: sending.dispatched, what="the id")
    manual.cancel([sending.dispatched[0].id])
    wait_until(lambda: sending.revoked, what="the revocation")
    assert sending.revoked[0].message_id == f"{id}.0"
    manual.retry([sending.dispatched[0].id])
    dispatch_loop.run_round()
    wait_until(lambda: len(sending.dispatched) == 2, what="the id")
    assert sending.dispatched[1].message_id == f"{id}.1"


def test_nothing_is_sent_under_a_test_runner(with_engine, transactional_db, monkeypatch):
    monkeypatch.setattr(senders, "_senders", {})
    tasks.noop.enqueue()
    assert senders._senders == {}


def test_engine_that_does_not_answer_delays_nobody(sending, settings, monkeypatch):
    """Neither the caller nor another engine; and an engine that fails gets the next jobs."""
    settings.TASKS = {**settings.TASKS, "hanging": settings.TASKS["default"]}
    answers = threading.Event()
    monkeypatch.setattr(engines.engine_of("hanging"), "dispatch", lambda jobs: answers.wait(60), raising=True)
    try:
        tasks.noop.using(backend="hanging").enqueue()
        id = tasks.noop.enqueue().id
        wait_until(lambda: sent_ids(sending) == [id], what="the id of the other engine")
    finally:
        answers.set()


def test_failure_of_an_engine_is_logged_once(sending, caplog, monkeypatch):
    """The jobs are dispatched again later."""
    engine = engines.engine_of("default")
    calls = []

    def fail(jobs):
        calls.append(jobs)
        raise ConnectionError("No broker.")

    monkeypatch.setattr(engine, "dispatch", fail)
    tasks.noop.enqueue()
    wait_until(lambda: len(calls) == 1, what="the first call")
    wait_for_idle_senders()
    tasks.noop.enqueue()
    wait_until(lambda: len(calls) == 2, what="the second call")
    monkeypatch.undo()
    monkeypatch.setattr(senders, "enabled_in_tests", True)
    assert caplog.text.count("Could not dispatch jobs to their engine") == 1


def test_jobs_behind_a_failed_call_are_not_tried_one_after_another(sending, monkeypatch):
    """A broker that does not answer costs one timeout, and all jobs are due again within seconds."""
    is_called, may_fail = threading.Event(), threading.Event()
    calls = []

    def fail(jobs):
        calls.append(jobs)
        is_called.set()
        may_fail.wait(60)
        raise TimeoutError("The broker does not answer.")

    monkeypatch.setattr(engines.engine_of("default"), "dispatch", fail)
    monkeypatch.setattr(senders, "MAX_JOBS_PER_CALL", 1)
    tasks.noop.enqueue()
    assert is_called.wait(60)
    for _ in range(3):
        tasks.noop.enqueue()
    may_fail.set()
    wait_until(lambda: not Job.objects.exclude(dispatch_count=0).exists(), what="the jobs to be postponed")
    assert len(calls) == 1
    assert senders.unreachable_backends() == {"default"}
    assert not Job.objects.filter(dispatched_at__isnull=False).exists()


def test_engine_that_is_reached_again(sending, monkeypatch):
    """The first job that is sent shows it."""
    engine = engines.engine_of("default")

    def fail(jobs):
        raise ConnectionError("No broker.")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "dispatch", fail)
        tasks.noop.enqueue()
        wait_until(senders.unreachable_backends, what="the failure")
        wait_for_idle_senders()
    id = tasks.noop.enqueue().id
    wait_until(lambda: sent_ids(sending) == [id], what="the id")
    wait_until(lambda: not senders.unreachable_backends(), what="the success")


def test_engine_that_refuses_some_jobs_is_not_away(sending, monkeypatch, caplog):
    """They keep their interval, which grows."""
    calls = []

    def refuse(jobs):
        calls.append(jobs)
        raise JobsRefused("1 jobs were refused.")

    monkeypatch.setattr(engines.engine_of("default"), "dispatch", refuse)
    tasks.noop.enqueue()
    wait_until(lambda: calls, what="the call")
    wait_for_idle_senders()
    assert senders.unreachable_backends() == set()
    assert Job.objects.get().dispatch_count == 1
    assert "1 jobs were refused" in caplog.text


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("nowhere.engine", "cannot be imported"),
        ("tests.contrib.engines.tasks", "cannot be imported"),
        (7, "must be a dotted path"),
    ],
)
def test_engine_that_cannot_be_set_up(settings, engine, message):
    settings.TASKS = {"default": {**BACKEND, "OPTIONS": {"engine": engine}}}
    with pytest.raises(ImproperlyConfigured, match=message):
        engines.engine_of("default")


def test_other_settings_make_other_engines(with_engine, settings):
    assert engines.engine_of("default") is engines.engine_of("default")
    assert engines.configured_engines().keys() == {"default"}
    settings.TASKS = {"default": BACKEND}
    assert engines.configured_engines() == {}


def test_engine_that_cannot_be_set_up_stops_no_other(sending, settings):
    """Its jobs wait, and those of the other engine are sent."""
    broken = {**BACKEND, "OPTIONS": {"engine": "nowhere.engine"}}
    waiting = tasks.noop.using(run_after=timezone.now() + timedelta(seconds=0.1)).enqueue()
    settings.TASKS = {**settings.TASKS, "broken": broken}
    assert engines.has_engines()
    wait_until(lambda: dispatch_loop.run_round() or sent_ids(sending) == [waiting.id], what="the id")
