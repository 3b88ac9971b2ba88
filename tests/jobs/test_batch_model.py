"""Batches: jobs begin, end, are cancelled, retried and lost at random, beside kills; a batch ends once, after its jobs.

MODEL_EXAMPLES=500 python -m pytest tests/jobs/test_batch_model.py    a long run
"""

import json
import os
from collections import Counter
from itertools import count
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.api import batch
from notifications.jobs import cancel, retry
from notifications.models import ACTIVE, Job, Notification
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import failed, record, release, succeeded
from tests.support.statements import mortal

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
NUMBERS = count()
LEVELS = {"succeeded": "success", "failed": "error", "cancelled": "warning"}


class World:
    """A batch with jobs, of which the last ones may be in a batch inside it. ``states`` are those of jobs by id."""

    def __init__(self, user, outer, inner):
        self.user, self.running = user, {}
        with batch(owner=user, title="Outer") as b:
            jobs = [tasks.noop.enqueue() for _ in range(outer)]
            if inner:
                with batch() as nested:
                    within = [tasks.noop.enqueue() for _ in range(inner)]
        self.jobs = {b.id: [UUID(job.id) for job in jobs]}
        if inner:
            self.jobs |= {nested.id: [UUID(job.id) for job in within]}
            self.jobs[b.id].append(nested.id)
        self.parents = {job: id for id, found in self.jobs.items() for job in found}
        self.states = {job: "queued" for job in self.parents if job not in self.jobs}
        self.ended, self.is_requested, self.ends = {}, dict.fromkeys(self.jobs, False), 0
        self.outer = b.id

    # What the states of jobs say.

    def state_of(self, id):
        return self.ended.get(id, "running") if id in self.jobs else self.states[id]

    def settle(self):
        """End the batches whose jobs have all ended, and have those go on that have an active one again."""
        for id in reversed(self.jobs):
            states = Counter(map(self.state_of, self.jobs[id]))
            if any(state in ACTIVE for state in states):
                if self.ended.pop(id, None):
                    self.is_requested[id] = False
            elif id not in self.ended:
                cancelled = "cancelled" if self.is_requested[id] and states["cancelled"] else "failed"
                self.ended[id] = "succeeded" if states.keys() == {"succeeded"} else cancelled
                self.ends += id == self.outer

    # What happens.

    def claim(self, number):
        for job in claim_rows(uuid4(), number % 3 + 1):
            self.running[job.id], self.states[job.id] = job, "running"

    def finish(self, number, state):
        if self.running:
            job = self.running.pop(sorted(self.running)[number % len(self.running)])
            self.states[job.id] = state
            record(succeeded(job) if state == "succeeded" else failed(job)) if state != "queued" else release(
                job
            )

    def lose(self, number):
        """The workers of all jobs that run are killed. Some jobs have no attempts left."""
        run_duty("take jobs from lost workers")
        for id, state in self.states.items():
            if state == "running":
                self.states[id] = Job.objects.get(id=id).state
        self.running.clear()

    def cancel(self, number):
        id = list(self.parents)[number % len(self.parents)] if number % 4 else self.outer
        self.cancel_in_simulation(id)
        cancel([id])

    def cancel_in_simulation(self, id):
        if id not in self.jobs:
            self.states[id] = "cancelled" if self.states[id] == "queued" else self.states[id]
        elif id not in self.ended:
            self.is_requested[id] = True
            for job in self.jobs[id]:
                self.cancel_in_simulation(job)

    def retry(self, number):
        id = list(self.parents)[number % len(self.parents)] if number % 4 else self.outer
        self.retry_in_simulation(id)
        retry([id])

    def retry_in_simulation(self, id):
        if self.state_of(id) in ("failed", "cancelled"):
            for job in self.jobs.get(id, ()):
                self.retry_in_simulation(job)
            if id in self.states:
                self.states[id] = "queued"

    def maintain(self):
        """What a process that was killed has left undone is done, and what a worker gave back is cancelled."""
        run_duty("resume cancellations of batches")
        run_duty("finish batches")

    def adopt(self, before):
        """Take over what a process has done before it was killed: for each job all or nothing."""
        found = dict(Job.objects.filter(id__in=self.states).values_list("id", "state"))
        assert all(found[id] in (before[id], state) for id, state in self.states.items())
        self.states = found
        requested = Job.objects.filter(id__in=self.jobs, cancel_requested_at__isnull=False)
        self.is_requested = dict.fromkeys(self.jobs, False) | dict.fromkeys(
            requested.values_list("id", flat=True), True
        )

    def compare(self):
        rows = Job.objects.in_bulk(self.parents.keys() | self.jobs.keys())
        for id, row in rows.items():
            assert row.state == self.state_of(id)
        for id, jobs in self.jobs.items():
            states = Counter(map(self.state_of, jobs))
            if rows[id].state == "succeeded":
                assert json.loads(rows[id].result) == {"succeeded": len(jobs), "failed": 0, "cancelled": 0}
            if id in self.ended:
                assert rows[id].progress_current == rows[id].progress_total == len(jobs) == states.total()
        told = Notification.objects.filter(user=self.user).order_by("id")
        assert {note.job for note in told} <= {self.outer} and len(told) == self.ends
        open = [note.level for note in told if note.archived_at is None]
        assert len(open) == bool(told)
        assert self.outer not in self.ended or open == [LEVELS[self.ended[self.outer]]]


ACTS = {
    "claim": World.claim,
    "succeed": lambda world, number: world.finish(number, "succeeded"),
    "fail": lambda world, number: world.finish(number, "failed"),
    "release": lambda world, number: world.finish(number, "queued"),
    "lose": World.lose,
    "cancel": World.cancel,
    "retry": World.retry,
}
OFTEN = ["claim", "claim", "claim", "succeed", "succeed", "fail", "fail", "retry"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*OFTEN, *ACTS]),
        st.integers(0, 11),
        st.sampled_from([0, 0, 0, 1, 3, 5, 8, 11, 15, 20]),
    ),
    min_size=10,
    max_size=20,
)


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(200 + 4 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, outer=st.integers(0, 1), inner=st.integers(0, 2))
def test_batches_end_as_in_the_simulation(make_user, steps, outer, inner):
    Job.objects.all().delete()
    world = World(make_user(f"user {next(NUMBERS)}"), outer or 1 - bool(inner), inner)
    for name, number, death in steps:
        before = dict(world.states)
        with mortal() as kill:
            if death and name not in ("claim", "lose"):
                kill(death)
            ACTS[name](world, number)
            death = 0  # It was not reached.
        if death:
            run_duty("resume cancellations of batches")
            world.adopt(before)
        world.settle()
        if name in ("cancel", "release", "retry", "lose") or death:
            world.maintain()
            for id, is_requested in world.is_requested.items():
                if is_requested and id not in world.ended:
                    world.cancel_in_simulation(id)
            world.settle()
        world.compare()
    # All that is left succeeds.
    world.lose(0)
    for _ in range(6):
        world.settle(), world.claim(2)
        while world.running:
            world.finish(0, "succeeded")
            world.settle()
    world.compare()
    assert world.outer in world.ended
