"""The reconciler ends jobs of which no signal came, by what the result backend, workers and the broker know."""

import threading
import time
import uuid
from datetime import timedelta

import pytest

from notifications import times
from notifications.jobs.declaring.policies import Policy
from notifications.models import Attempt
from tests.contrib.celery.conftest import bell_of
from tests.contrib.celery.reconcilers import problem

states = pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")


@pytest.mark.parametrize(
    ("state", "value", "expected"),
    [
        (states.SUCCESS, {"rows": 3}, ("succeeded", "")),
        (states.FAILURE, ValueError("x"), ("failed", "task-failed")),
        (states.REVOKED, None, ("cancelled", "cancelled")),
    ],
)
@pytest.mark.parametrize("job_state", ["queued", "running"])
def test_the_result_backend_knows_the_end(
    reconciler, celery_app, make_job, user, state, value, expected, job_state
):
    job = make_job(state=job_state)
    if state == states.REVOKED:
        celery_app.backend.mark_as_revoked(str(job.id), "revoked")
    else:
        celery_app.backend.store_result(str(job.id), value, state)
    reconciler.run_round()
    assert problem(job) == expected
    assert len(bell_of(user)) == 1
    if state == states.SUCCESS:
        assert job.result == '{"rows":3}'


def test_a_task_of_a_lost_worker_fails(reconciler, make_job, user):
    job = make_job(state="running")
    reconciler.run_round()
    assert problem(job) == ("failed", "worker-lost")
    assert len(bell_of(user)) == 1
    assert Attempt.objects.get(job=job).outcome == "lost"


def test_guess_that_the_result_backend_corrects_later(
    reconciler, reconcile, celery_app, make_job, user, monkeypatch
):
    """A worker was suspended, went on, and was killed between the end of its task and the record of that."""
    monkeypatch.setattr(reconcile, "GUESS_RECHECK_SECONDS", (0.0, 0.0, 60.0))
    job = make_job(state="running")
    for _ in range(2):
        reconciler.run_round()
        assert problem(job) == ("failed", "worker-lost")
    celery_app.backend.store_result(str(job.id), 3, states.SUCCESS)
    reconciler.run_round()
    assert problem(job) == ("failed", "worker-lost")  # the next time comes after a minute
    monkeypatch.setattr(reconcile, "GUESS_RECHECK_SECONDS", (0.0, 0.0, 0.0))
    reconciler.run_round()
    assert problem(job) == ("succeeded", "")
    assert [level for *_, level in bell_of(user)] == ["error", "success"]
    assert reconciler._guesses == {}


def test_notify_functions_are_called_at_once(reconciler, reconcile, make_job, user, monkeypatch):
    """Not one after another: each may take seconds."""
    barrier = threading.Barrier(2)
    policy = Policy(notify=lambda job: {"title": f"Call {barrier.wait(3)}"})
    monkeypatch.setattr(reconcile, "policy_of", lambda observation: policy)
    for state in ("running", "queued"):
        for _ in range(2):
            job = make_job(state=state)
            if state == "queued":
                reconciler._app.backend.store_result(str(job.id), 3, states.SUCCESS)
    reconciler.run_round()
    assert sorted(title for title, *_ in bell_of(user)) == ["Call 0", "Call 0", "Call 1", "Call 1"]


def test_few_guesses_are_remembered(reconciler, reconcile, make_job, monkeypatch):
    monkeypatch.setattr(reconcile, "MAX_GUESSES", 2)
    for _ in range(3):
        make_job(state="running")
    reconciler.run_round()
    assert len(reconciler._guesses) == 2


def test_a_cancelled_task_of_a_lost_worker_is_cancelled(reconciler, make_job, user):
    job = make_job(state="running", cancel_requested_at=times.now())
    reconciler.run_round()
    assert problem(job) == ("cancelled", "cancelled")
    assert bell_of(user) == []


def test_a_task_that_is_delivered_again_waits_for_that(reconciler, make_job, user):
    job = make_job(state="running", task_path="tests.contrib.celery.tasks.hold_late")
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    assert job.check_at > times.now()
    assert Attempt.objects.get(job=job).outcome == "lost"
    assert bell_of(user) == []


def test_a_task_of_a_live_worker_is_left_alone(reconciler, make_job, live_worker):
    job = make_job(state="running", worker=live_worker())
    reconciler.run_round()
    assert problem(job) == ("running", "")


def test_nothing_is_taken_from_others_while_the_lease_is_in_doubt(reconciler, lease, make_job, monkeypatch):
    monkeypatch.setattr(lease, "may_reap", lambda: False)
    job = make_job(state="running")
    reconciler.run_round()
    assert problem(job) == ("running", "")


def test_a_task_that_its_own_worker_no_longer_has(reconciler, reconcile, lease, make_job, monkeypatch):
    job = make_job(state="running", worker=lease.worker)
    reconciler.run_round()
    assert problem(job) == ("running", "")  # its process may still be recording the end
    monkeypatch.setattr(reconcile, "MISSING_SECONDS", 0)
    time.sleep(0.01)
    reconciler.run_round()
    assert problem(job) == ("failed", "outcome-unknown")


def test_a_task_that_its_own_worker_has(reconciler, reconcile, lease, make_job, monkeypatch):
    job = make_job(state="running", worker=lease.worker)
    monkeypatch.setattr(reconcile, "MISSING_SECONDS", 0)
    monkeypatch.setitem(reconcile.worker_state.requests, str(job.id), object())
    for _ in range(2):
        reconciler.run_round()
    assert problem(job) == ("running", "")


def test_two_processes_do_not_look_for_the_same_job(make_job, reconciler):
    from notifications.engines.observed import changes

    make_job()
    now = times.now()
    assert len(changes.take_overdue(now, now + timedelta(seconds=60), 10)) == 1
    assert changes.take_overdue(now, now + timedelta(seconds=60), 10) == []


@pytest.mark.parametrize("error", [ValueError("The result cannot be decoded."), FileNotFoundError("result")])
def test_result_that_cannot_be_read_stops_no_other_job(reconciler, make_job, monkeypatch, error):
    """Neither of a lost worker nor of a lost message."""
    from notifications.contrib.celery import broker

    def read_meta(app, id):
        if id == str(unreadable.id):
            raise error

    unreadable = make_job(state="running", worker=uuid.UUID(int=1))
    lost = make_job(state="running", worker=uuid.UUID(int=2))
    monkeypatch.setattr(broker, "read_meta", read_meta)
    reconciler.run_round()
    lost.refresh_from_db()
    assert lost.state == "failed"
