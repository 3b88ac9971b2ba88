"""Waits: jobs pause and wait for signatures, which come, are late or never come, and go on as in the simulation.

MODEL_EXAMPLES=500 python -m pytest tests/model    a long run
"""

import json
import os
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import TestCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.api import apause, await_for, end_wait, policy, task
from notifications.exceptions import WaitDoesNotExist, WaitEnded
from notifications.extension import WaitKind
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification, Wait
from notifications.testing import clock, run_jobs
from tests.support.extensions import set_wait_kind

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
#: A wait: whether it is a pause, and its seconds, None without a limit. The clock moves by advance() only.
WAITS = st.sampled_from([(True, 100), (True, 1_000), (False, 100), (False, 1_000), (False, None)])


class Signature(WaitKind):
    kind = "signature"


@task
@policy(max_attempts=1)
async def wait_in_turn(waits):
    """Wait for each of them, and return how they have ended."""
    return [await wait(f"wait {index}", *each) for index, each in enumerate(waits)]


async def wait(name, is_pause, seconds):
    if is_pause:
        return await apause(name, timedelta(seconds=seconds)) or "due"
    expires = seconds and timedelta(seconds=seconds)
    return (await await_for(Signature, name, expires=expires)).how


class SimulatedJob:
    """``ends`` has how its waits have ended, by their index. The first without an end is the one that is open."""

    def __init__(self, id, waits):
        self.id, self.waits, self.state, self.ends, self.due_at = id, waits, "queued", {}, None
        self.attempt = 0

    @property
    def index(self):
        return next((index for index in range(len(self.waits)) if index not in self.ends), None)

    def is_over(self):
        return self.state == "waiting" and self.due_at is not None and self.due_at <= clock.now()

    def run(self):
        if self.is_over():
            self.end("due" if self.waits[self.index][0] else "expired")
        if self.state == "queued":
            self.attempt += 1
            if self.index is None:
                self.state = "succeeded"
            else:
                seconds = self.waits[self.index][1]
                self.state = "waiting"
                self.due_at = seconds and clock.now() + timedelta(seconds=seconds)

    def end(self, how):
        """To go on is no other attempt."""
        self.ends[self.index], self.state = how, "queued"
        self.attempt -= 1

    def cancel(self):
        if self.state == "waiting":
            self.ends[self.index] = "cancelled"
        if self.state in ("queued", "waiting"):
            self.state = "cancelled"

    def retry(self):
        """It waits anew for what has not come in time."""
        if self.state == "cancelled":
            self.state = "queued"
            self.ends = {
                index: how for index, how in self.ends.items() if how not in ("expired", "cancelled")
            }


class Waits:
    """Jobs of a user, and what happens to them."""

    def __init__(self, plans):
        self.user = get_user_model().objects.create(username="ada")
        ids = [wait_in_turn.using(owner=self.user).enqueue(waits).id for waits in plans]
        self.jobs = [SimulatedJob(id, waits) for id, waits in zip(ids, plans, strict=True)]

    def run(self):
        run_jobs()
        for job in self.jobs:
            job.run()

    def sign(self, job):
        """The first end counts; what is over, cancelled or not yet waited for is refused."""
        for index, (is_pause, _) in enumerate(job.waits):
            if is_pause:
                continue
            is_open = job.state == "waiting" and index == job.index and not job.is_over()
            try:
                ended = end_wait(Signature, job.id, f"wait {index}", how="signed")
            except (WaitEnded, WaitDoesNotExist):
                assert not is_open
                if job.is_over() and index == job.index:
                    job.end("expired")  # by this call
            else:
                assert is_open and ended.how == "signed"
                job.end("signed")

    def cancel(self, job):
        cancel([UUID(job.id)])
        job.cancel()

    def retry(self, job):
        retry([UUID(job.id)])
        job.retry()

    def restart(self, job):
        self.cancel(job)
        self.retry(job)

    def compare(self):
        """A job that waits has one open wait, no worker and no deadline."""
        rows = {str(row.id): row for row in Job.objects.all()}
        for job in self.jobs:
            row = rows[job.id]
            if not job.is_over():  # of which the next run ends the wait
                assert row.state == job.state
                open_waits = Wait.objects.filter(job=row.id, ended_at=None)
                assert open_waits.count() == (job.state == "waiting")
                assert row.attempt == job.attempt
            if row.state == "waiting":
                assert row.worker is None and row.deadline is None
            if row.state == "succeeded":
                assert json.loads(row.result) == [job.ends[index] for index in range(len(job.waits))]

    def drain(self):
        """Each job ends once, and its owner is notified of its last end only."""
        for _ in range(4):
            self.run()
            for job in self.jobs:
                self.sign(job)
            clock.advance(5_000)
            self.run()
        self.compare()
        assert {job.state for job in self.jobs} <= {"succeeded", "cancelled"}
        assert not Wait.objects.filter(ended_at=None).exists()
        told = Notification.objects.filter(archived_at=None).values_list("job", flat=True)
        assert sorted(map(str, told)) == sorted(job.id for job in self.jobs)


#: The seconds that pass, what happens to which job, and whether jobs run then.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 50, 500, 2_000]),
        st.sampled_from([lambda waits, job: None, Waits.sign, Waits.cancel, Waits.retry, Waits.restart]),
        st.integers(0, 1),
        st.sampled_from([True, True, False]),
    ),
    max_size=12,
)


@pytest.mark.database_law
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.lists(WAITS, min_size=1, max_size=3), min_size=1, max_size=2), steps=STEPS)
def test_jobs_wait_as_in_the_simulation(db, plans, steps):
    with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
        set_wait_kind(patch, "signature", Signature())
        waits = Waits(plans)
        try:
            for seconds, act, number, is_run in steps:
                clock.advance(seconds)
                with TestCase.captureOnCommitCallbacks(execute=True):
                    act(waits, waits.jobs[number % len(plans)])
                waits.compare()
                if is_run:
                    waits.run()
                    waits.compare()
            waits.drain()
        finally:
            clock.reset()
            transaction.set_rollback(True)
