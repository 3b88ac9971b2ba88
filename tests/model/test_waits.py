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
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from notifications.api import apause, await_for, end_wait, policy, task
from notifications.exceptions import WaitDoesNotExist, WaitEnded
from notifications.extension import WaitKind
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification, Wait
from notifications.testing import clock, run_jobs
from tests.support.extensions import set_wait_kind

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
#: A wait: whether it is a pause, and its seconds, None without a limit. The clock moves by advance() only.
WAITS = st.sampled_from([(True, 100), (True, 1_000), (False, 100), (False, 1_000), (False, None)])
numbers = st.integers(0, 1)


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


class Waits(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.jobs = []

    @initialize(plans=st.lists(st.lists(WAITS, min_size=1, max_size=3), min_size=1, max_size=2))
    def enqueue(self, plans):
        self.user = get_user_model().objects.create(username="ada")
        for waits in plans:
            self.jobs.append(SimulatedJob(wait_in_turn.using(owner=self.user).enqueue(waits).id, waits))

    def job(self, number):
        return self.jobs[number % len(self.jobs)]

    @rule()
    def run(self):
        run_jobs()
        for job in self.jobs:
            job.run()

    @rule(seconds=st.sampled_from([50, 500]))
    def advance(self, seconds):
        clock.advance(seconds)

    @rule(number=numbers, late=st.sampled_from([0, 0, 2_000]))
    def sign(self, number, late=0):
        """The first end counts; what is over, cancelled or not yet waited for is refused."""
        clock.advance(late)
        job = self.job(number)
        indexes = [index for index, (is_pause, _) in enumerate(job.waits) if not is_pause]
        for index in indexes:
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

    @rule(number=numbers)
    def cancel(self, number):
        with TestCase.captureOnCommitCallbacks(execute=True):
            cancel([UUID(self.job(number).id)])
        self.job(number).cancel()

    @rule(number=numbers)
    def retry(self, number):
        with TestCase.captureOnCommitCallbacks(execute=True):
            retry([UUID(self.job(number).id)])
        self.job(number).retry()

    @invariant()
    def states_are_those_of_the_simulation(self):
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

    def teardown(self):
        try:
            self.drain()
        finally:
            clock.reset()
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    def drain(self):
        """Each job ends once, and its owner is notified of its last end only."""
        for _ in range(4):
            self.run()
            for number in range(len(self.jobs)):
                self.sign(number)
            self.advance(5_000)
            self.run()
        self.states_are_those_of_the_simulation()
        assert {job.state for job in self.jobs} <= {"succeeded", "cancelled"}
        assert not Wait.objects.filter(ended_at=None).exists()
        told = Notification.objects.filter(archived_at=None).values_list("job", flat=True)
        assert sorted(map(str, told)) == sorted(job.id for job in self.jobs)


@pytest.mark.database_law
def test_jobs_wait_as_in_the_simulation(db, monkeypatch):
    set_wait_kind(monkeypatch, "signature", Signature())
    run_state_machine_as_test(
        Waits,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
