"""Another attempt after an exception that may pass, with a pause that is stored."""

import json
import random
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.compat import TaskResultStatus, task_finished, task_started
from notifications.jobs.policies import Policy
from notifications.jobs.transitions import outcomes, reaping, recording
from notifications.models import Attempt, Job
from notifications.signals import job_finished, rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import told, until_done
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db


def pass_the_pause():
    Job.objects.filter(state="queued").update(run_after=timezone.now())


def pause(policy=None, *, attempt=1, exc=None, max_attempts=100):
    job = Job(attempt=attempt, max_attempts=max_attempts, title="x")
    return outcomes.failed(job, policy or Policy(retry_on=tasks.Busy), exc or tasks.Busy()).retry_delay


@pytest.fixture
def chance(longest_pause, monkeypatch):
    """What chance chooses."""
    monkeypatch.setattr(outcomes, "random", random)


def test_a_job_is_tried_again_until_it_succeeds(demo):
    """Nobody is told of an attempt; Django's result has an error for each, and a worker for all."""
    result = tasks.busy.using(owner=demo).enqueue(2)
    for attempt in (1, 2):
        assert run_jobs() == 1
        job = Job.objects.get()
        assert (job.state, job.attempt, job.seq, job.worker, job.deadline) == (
            "queued",
            attempt,
            0,
            None,
            None,
        )
        assert (job.result, job.error, job.finished_at) == (None, None, None)
        assert job.run_after > timezone.now()
        assert told(demo) == []
        result.refresh()
        assert (result.status, result.attempts, len(result.errors)) == (
            TaskResultStatus.READY,
            attempt,
            attempt,
        )
        assert run_jobs() == 0, "It waits for its time."
        pass_the_pause()
    assert run_jobs() == 1
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 3)
    assert [error.exception_class for error in result.errors] == [tasks.VeryBusy, tasks.VeryBusy]
    assert len(told(demo)) == 1


def test_the_last_attempt_fails(demo):
    """max_attempts counts all attempts; the owner is told once."""
    tasks.busy_sync.using(owner=demo).enqueue(9)
    run_jobs()
    pass_the_pause()
    assert run_jobs() == 1
    job = Job.objects.get()
    assert (job.state, job.attempt, json.loads(job.error)["type"]) == ("failed", 2, "task-failed")
    assert [attempt.number for attempt in Attempt.objects.order_by("number")] == [1, 2]
    assert len(told(demo)) == 1


def test_progress_begins_anew(demo):
    tasks.busy_sync.using(owner=demo).enqueue(1)
    run_jobs()
    job = Job.objects.get()
    assert (job.progress_current, job.progress_total, job.progress_message) == (None, None, "")


def test_what_is_not_named_fails_at_once():
    tasks.fails_otherwise.enqueue()
    tasks.not_json.enqueue("set")
    run_jobs()
    assert set(Job.objects.values_list("state", "attempt")) == {("failed", 1)}


def test_an_attempt_that_took_too_long():
    """With TimeoutError among what is retried; without it, it has failed."""
    again, once = tasks.slow_at_first.enqueue(), tasks.slow.enqueue()
    run_jobs()
    assert Job.objects.get(id=once.id).state == "failed"
    assert Job.objects.get(id=again.id).state == "queued"
    assert Attempt.objects.get(job=again.id).outcome == "timed_out"
    pass_the_pause()
    run_jobs()
    again.refresh()
    assert again.return_value == "in time"


def test_the_pause_is_any_part_of_a_time_that_doubles(chance):
    """Full jitter: from 0 to 2, 4, 8, … seconds, at most an hour."""
    for attempt, most in ((1, 2), (2, 4), (3, 8), (12, 3600), (90, 3600)):
        pauses = [pause(attempt=attempt) for _ in range(400)]
        assert 0 <= min(pauses) < most * 0.1
        assert most * 0.9 < max(pauses) <= most


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (60, 60, 60),
        (0.5, 0.5, 2),
        (10**9, 86_400, 86_400),
        (float("inf"), 86_400, 86_400),
        pytest.param(10**400, 86_400, 86_400, id="huge"),
        (float("nan"), 0, 2),
        (-5, 0, 2),
        (True, 0, 2),
        ("60", 0, 2),
    ],
)
def test_the_pause_is_at_least_what_the_exception_asks_for(chance, asked, least, most):
    """A number of seconds, at most a day; anything else is no wish."""
    pauses = [pause(exc=tasks.Busy(asked)) for _ in range(100)]
    assert least <= min(pauses) and max(pauses) <= most


def test_what_the_exception_asks_for_is_stored():
    tasks.busy.enqueue(1, 500)
    run_jobs()
    left = (Job.objects.get().run_after - timezone.now()).total_seconds()
    assert 490 < left <= 500


def test_another_attempt_tells_nobody(demo):
    """No signal says that the job is done; its version says that it changed."""
    heard = []

    def hear(signal, **kwargs):
        heard.append(signal)

    for signal in (task_started, task_finished, job_finished):
        signal.connect(hear)
    try:
        tasks.busy.using(owner=demo).enqueue(9)
        version = Job.objects.get().version
        run_jobs()
    finally:
        for signal in (task_started, task_finished, job_finished):
            signal.disconnect(hear)
    assert heard == [task_started]
    assert Job.objects.get().version == version + 2


@pytest.mark.django_db(transaction=True)
def test_the_ring_of_another_attempt(demo, live):
    rings = []

    def hear(users, queue, **kwargs):
        rings.append((users, queue))

    tasks.busy.using(owner=demo).enqueue(9)
    (job,) = claim_rows(live(), 1)
    rung.connect(hear)
    try:
        recording.record_outcomes([outcomes.failed(job, Policy(retry_on=tasks.Busy), tasks.Busy())])
    finally:
        rung.disconnect(hear)
    assert rings == [([demo.pk], False)]


def test_neighbours_in_a_group(demo, live):
    """One is tried again, one succeeds, one fails, in one transaction."""
    for _ in range(3):
        tasks.noop.using(owner=demo).enqueue()
    jobs = claim_rows(live(), 3)
    policy = Policy(retry_on=tasks.Busy)
    group = [
        outcomes.failed(jobs[0], policy, tasks.Busy()),
        outcomes.succeeded(jobs[1], policy, 1),
        outcomes.failed(jobs[2], policy, ValueError()),
    ]
    stored, void = recording.record_outcomes(group)
    assert (len(stored), void) == (3, [])
    rows = {job.id: job for job in Job.objects.all()}
    assert [rows[job.id].state for job in jobs] == ["queued", "succeeded", "failed"]
    assert {note.job for note in told(demo)} == {jobs[1].id, jobs[2].id}
    assert sorted(rows[job.id].seq for job in jobs) + sorted(note.seq for note in told(demo)) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_a_worker_tries_again_by_itself(worker, demo, monkeypatch):
    """After the pause, without a ring."""
    monkeypatch.setattr("notifications.jobs.transitions.outcomes.MAX_BACKOFF_SECONDS", 0.2)
    result = tasks.busy.using(owner=demo).enqueue(3)
    (job,) = until_done(result)
    assert (job.state, job.attempt, job.fence, job.result) == ("succeeded", 4, 4, "4")
    assert Attempt.objects.count() == 3
    assert len(told(demo)) == 1


def test_a_job_whose_worker_is_lost_has_fewer_attempts_left(live):
    """Both count."""
    tasks.busy.enqueue(9)
    run_jobs()
    Job.objects.update(run_after=None, max_attempts=2)
    claim_rows(live(-1), 1)
    Job.objects.update(deadline=timezone.now() - timedelta(seconds=1))
    reaping.reap_jobs()
    assert Job.objects.get().state == "failed"
