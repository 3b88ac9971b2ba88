"""Queues that are paused and resumed."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.jobs.claiming import queues
from notifications.models import Job, Queue
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_no_job_of_a_paused_queue_starts():
    """Jobs of other queues start. Those of the paused queue start after it is resumed."""
    queues.pause_queue("reports")
    paused, other = tasks.noop.using(queue_name="reports").enqueue(), tasks.noop.enqueue()
    assert run_jobs() == 1
    assert Job.objects.get(id=other.id).state == "succeeded"
    assert claim_rows(uuid.uuid4(), 10) == []
    assert claim_rows(uuid.uuid4(), 10, queues=["reports"]) == []
    queues.pause_queue("reports", is_paused=False)
    assert run_jobs() == 1
    assert Job.objects.get(id=paused.id).state == "succeeded"


@pytest.mark.parametrize("served", [[], ["a", "c"], ["c", "a", "a"]])
def test_the_order_over_queues(settings, served):
    """Jobs are claimed by priority, then in rounds over all queues, with and without run_after and limits."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"c": 2}}}}
    queues.pause_queue("paused")
    ago = timezone.now() - timedelta(hours=1)
    tasks.noop.using(queue_name="paused", priority=9).enqueue()
    tasks.noop.using(queue_name="paused", priority=9, run_after=ago).enqueue()
    jobs = [
        ("c", 0, None),
        ("a", 0, None),
        ("a", 5, ago),
        ("c", 5, None),
        ("a", 9, ago),
        ("c", 0, ago),
        ("a", 0, None),
    ]
    results = [
        tasks.noop.using(queue_name=name, priority=priority, run_after=later).enqueue()
        for name, priority, later in jobs
    ]
    claimed = [str(job.id) for _ in range(4) for job in claim_rows(uuid.uuid4(), 2, queues=served)]
    numbers = [[result.id for result in results].index(id) for id in claimed]
    assert (numbers[0], set(numbers[1:3])) == (4, {2, 3})
    # Two of queue c: one of those with priority 0, whichever round is first.
    assert sorted(numbers[3:]) in ([0, 1, 6], [1, 5, 6])
    assert numbers.index(1) < numbers.index(6)
    assert claim_rows(uuid.uuid4(), 2, queues=served) == []


@pytest.mark.parametrize("round", range(3))
def test_a_queue_paused_during_claims(round):
    """No job of the queue starts after the pause. All jobs of other queues are claimed, each once."""
    with transaction.atomic():
        for _ in range(150):
            for name in ("a", "b", "c"):
                tasks.noop.using(queue_name=name).enqueue()
    claimed, after = [], []
    paused = threading.Event()

    def claim():
        idle = 0
        while idle < 3:
            is_after = paused.is_set()
            jobs = claim_rows(uuid.uuid4(), 5)
            claimed.extend(job.id for job in jobs)
            after.extend(job.queue_name for job in jobs if is_after)
            idle = 0 if jobs else idle + 1

    def pause():
        wait_until(lambda: len(claimed) > 50, what="the first claims")
        queues.pause_queue("b")
        paused.set()

    run_in_threads(pause, claim, claim, claim)
    claim()  # Jobs that all claimers skipped because another one had locked them.
    assert "b" not in after
    assert len(claimed) == len(set(claimed))
    queued = Job.objects.filter(state="queued")
    assert set(queued.values_list("queue_name", flat=True)) <= {"b"}
    queues.pause_queue("b", is_paused=False)
    count = queued.count()
    assert len(claim_rows(uuid.uuid4(), 200)) == min(count, 200)


def test_many_queues():
    """One claim finds the jobs of 600 queues."""
    names = [f"queue {number:03}" for number in range(600)]
    with transaction.atomic():
        for name in names:
            tasks.noop.using(queue_name=name).enqueue()
    queues.pause_queue("other")
    assert len(claim_rows(uuid.uuid4(), 1_000)) == 600


def test_running_jobs_of_a_paused_queue_end(worker, gate):
    result = tasks.hold.enqueue()
    wait_until(lambda: tasks.held, what="the job to run")
    queues.pause_queue("default")
    gate.set()
    assert until_done(result)[0].state == "succeeded"


def test_resuming_wakes_workers(worker):
    queues.pause_queue("default")
    result = tasks.noop.enqueue()
    rings = []

    def receive(queue, **kwargs):
        rings.append(queue)

    rung.connect(receive)
    try:
        queues.pause_queue("default", is_paused=False)
    finally:
        rung.disconnect(receive)
    assert rings == [True]
    until_done(result)


def test_pause_and_resume_are_idempotent():
    for _ in range(2):
        queues.pause_queue("default")
    assert Queue.objects.count() == 1
    for _ in range(2):
        queues.pause_queue("default", is_paused=False)
    queues.pause_queue("reports", is_paused=False)
    assert not Queue.objects.filter(paused_at__isnull=False).exists()


def test_inside_a_transaction_the_pause_waits_for_the_commit():
    with transaction.atomic():
        queues.pause_queue("default")
        assert not Queue.objects.exists()
    assert Queue.objects.get().paused_at is not None


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_invalid_names(name):
    queues.pause_queue("x" * 100)
    with pytest.raises(ValueError, match="There is no queue"):
        queues.pause_queue(name)


def test_a_queue_that_is_not_in_the_settings(settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default", "mail"]}}
    with pytest.raises(
        ValueError, match=r"There is no queue 'mial'\. The queues in TASKS are: default, mail\."
    ):
        queues.pause_queue("mial")
    queues.pause_queue("mail")
