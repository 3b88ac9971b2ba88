"""Recorded suspensions that overlap with the ends of what jobs wait for, with cancellations and lost claims."""

import os
import random
import threading
import time
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest

from notifications.db import database_now
from notifications.jobs import Outcome, cancel, end_stored
from notifications.jobs.transitions import recording
from notifications.models import Job, Wait
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]

#: Rounds, and jobs in each.
ROUNDS, JOBS = int(os.environ.get("WAIT_ROUNDS", "4")), 100
MAX_PAUSE = 0.004


@pytest.mark.long
@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_a_suspension_overlaps_with_the_end_of_its_wait_and_a_cancellation(user):
    """No job waits for ever. Each is queued once, or cancelled, and its wait has ended as the job has."""
    ends = Counter()
    for _ in range(ROUNDS):
        ends.update(race(user))
    assert ends.total() == ROUNDS * JOBS
    assert {"queued", "cancelled"} == ends.keys()
    print(dict(ends))


def race(user):
    for _ in range(JOBS):
        tasks.noop.using(owner=user).enqueue()
    jobs = claim_rows(uuid4(), JOBS)
    fences = {job.id: job.fence for job in jobs}
    # Waits that were stored before the suspension, as an answer may come before its job waits for it.
    now = database_now()
    stored = [
        Wait(
            job=job.id,
            name="nap",
            kind="callback",
            attempt=1,
            created_at=now,
            due_at=None if number % 2 else now + timedelta(milliseconds=random.uniform(0, 400)),
        )
        for number, job in enumerate(jobs[: JOBS // 2])
    ]
    Wait.objects.bulk_create(stored)
    cancelled = {job.id for job in jobs if random.random() < 0.2}
    is_over = threading.Event()

    def suspend():
        remaining = list(jobs)
        random.shuffle(remaining)
        while remaining:
            group, remaining = remaining[:5], remaining[5:]
            waits = [Wait(job=job.id, name="nap", kind="pause", attempt=1) for job in group]
            for wait in waits:
                wait.lasts = timedelta(milliseconds=random.uniform(0, 50))
            outcomes = [
                Outcome(job=job, state="waiting", waits=[wait])
                for job, wait in zip(group, waits, strict=True)
            ]
            finished = recording.finish_jobs(outcomes)
            remaining += [job for job in group if (job.id.int, job.fence) not in finished]
            time.sleep(random.uniform(0, MAX_PAUSE))

    def end_due():
        while not is_over.is_set() or Wait.objects.filter(ended_at=None).exists():
            run_duty("end waits that are due")
            time.sleep(random.uniform(0, MAX_PAUSE))

    def cancel_jobs():
        for id in cancelled:
            cancel([id])
            time.sleep(random.uniform(0, MAX_PAUSE))

    def call():
        remaining = [wait for wait in stored if wait.due_at is None]
        random.shuffle(remaining)
        for wait in remaining:
            end_stored(wait.job, Wait.objects.filter(id=wait.id), how="called_back", value="1")
            time.sleep(random.uniform(0, MAX_PAUSE))

    def suspend_and_tell():
        try:
            suspend()
        finally:
            time.sleep(0.5)
            is_over.set()

    run_in_threads(suspend_and_tell, end_due, end_due, call, cancel_jobs)
    rows = list(Job.objects.filter(id__in=fences))
    waits = {wait.job: wait for wait in Wait.objects.filter(job__in=fences)}
    for job in rows:
        # Where the request was stored before the suspension, the job does not wait.
        wait = waits.get(job.id)
        assert job.state in ("queued", "cancelled"), (job.state, wait and vars(wait))
        assert job.fence == fences[job.id]
        assert job.waiting is None
        assert not wait or wait.ended_at
        if job.state == "queued":
            ends = ["due"] if wait.kind == "pause" else ["expired", "called_back"]
            assert job.attempt == 0 and wait.how in ends
        else:
            assert job.id in cancelled
    Job.objects.all().delete()
    Wait.objects.all().delete()
    return Counter(job.state for job in rows)
