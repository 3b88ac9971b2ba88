"""One queue: all ways into and out of it, at random, and the simulation says which jobs begin.

MODEL_EXAMPLES=500 python -m pytest tests/model    a long run
"""

import os
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import TestCase
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from notifications.api import batch
from notifications.extension import Upkeep, Where
from notifications.jobs import cancel, retry
from notifications.jobs.transitions import queueing
from notifications.management import pause_queue
from notifications.models import Job, Worker, uuid7
from notifications.testing import clock
from tests.jobs import tasks
from tests.model.fair_queue import FairQueue
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import record, schedule_retries, succeeded

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "10"))
SHARES, QUEUES, WORKERS = "abc", ("default", "other"), (0, 1)
#: Jobs that one chunk of due jobs has, in place of 100 or 200.
CHUNK = 3
# Times are minutes and hours, so that no job becomes due while an example runs, but by advance().

share, queue = st.sampled_from(SHARES), st.sampled_from(QUEUES)
priority = st.sampled_from([0, 0, 1])
worker, count = st.sampled_from(WORKERS), st.integers(1, 4)


class OneQueue(RuleBasedStateMachine):
    """Jobs by the numbers of the simulation, of which a lost worker's are in a queue of their own there."""

    def __init__(self):
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.model = FairQueue()
        self.ids, self.numbers = {}, {}
        self.scheduled = {}  # number: (time, values)
        self.running = {number: {} for number in WORKERS}  # id: (simulated job, row)
        self.expiring = {}  # number: time, of those that have not begun
        self.values = {}  # number: share, queue and priority
        self.ended, self.begun, self.retried = set(), Counter(), Counter()

    @initialize()
    def users_and_workers(self):
        create = get_user_model().objects.create
        self.owners = {name: create(username=f"share {name}") for name in SHARES}
        self.leases = {number: self.new_lease() for number in WORKERS}

    def new_lease(self):
        now = clock.now()
        return Worker.objects.create(
            id=uuid7(), started_at=now, lease_until=now + timedelta(seconds=60), concurrency=4
        ).id

    # Into the queue.

    def options(self, share, queue, priority):
        return {"owner": self.owners[share], "queue_name": queue, "priority": priority}

    def add(self, id):
        """Return the number of a new job."""
        self.numbers[id] = number = len(self.ids) + 1
        self.ids[number] = id
        Job.objects.filter(id=id).update(max_attempts=1_000)
        return number

    def join(self, number, values):
        self.values[number] = values
        self.model.enqueue(**values, number=number)

    @rule(share=share, queue=queue, priority=priority, count=count, seconds=st.sampled_from([0, 500, 6_000]))
    def enqueue(self, share, queue, priority, count, seconds):
        """Jobs that expire after so many seconds, or never."""
        values = {"share": share, "queue": queue, "priority": priority}
        expires = clock.now() + timedelta(seconds=seconds) if seconds else None
        task = tasks.noop.using(**self.options(share, queue, priority), expires=expires)
        for _ in range(count):
            number = self.add(task.enqueue().id)
            self.join(number, values)
            if expires:
                self.expiring[number] = expires

    @rule(share=share, queue=queue, count=count)
    def enqueue_batch(self, share, queue, count):
        with batch(owner=self.owners[share]):
            results = [tasks.noop.using(queue_name=queue).enqueue() for _ in range(count)]
        for result in results:
            self.join(self.add(result.id), {"share": share, "queue": queue, "priority": 0})

    @rule(
        share=share,
        queue=queue,
        priority=priority,
        count=st.integers(1, 8),
        seconds=st.sampled_from([500, 6_000]),
    )
    def schedule(self, share, queue, priority, count, seconds):
        run_after = clock.now() + timedelta(seconds=seconds)
        task = tasks.noop.using(**self.options(share, queue, priority), run_after=run_after)
        for _ in range(count):
            values = {"share": share, "queue": queue, "priority": priority}
            number = self.add(task.enqueue().id)
            self.scheduled[number], self.values[number] = (run_after, values), values

    @rule()
    def end_expired(self):
        """They end without an attempt."""
        run_duty("end expired jobs")
        for number in self.find_expired():
            job = Job.objects.get(id=self.ids[number])
            assert (job.state, job.attempt) == ("failed", self.begun[number])
            assert '"expired"' in job.error
            self.leave(number)
            self.ended.add(number)

    def find_expired(self):
        return {number for number, at in self.expiring.items() if at <= clock.now()}

    def leave(self, number):
        """A job is not in the queue any more."""
        self.expiring.pop(number, None)
        self.scheduled.pop(number, None)
        self.model.jobs = [job for job in self.model.jobs if job.number != number]

    @rule(data=st.data())
    def retry_one(self, data):
        """By hand: it does not expire."""
        states = dict(Job.objects.filter(batch=None).values_list("id", "state"))
        states = {self.numbers.get(str(id)): state for id, state in states.items()}
        if retryable := sorted(n for n in self.ended if states.get(n) in ("failed", "cancelled")):
            number = data.draw(st.sampled_from(retryable))
            with TestCase.captureOnCommitCallbacks(execute=True):
                retry([UUID(self.ids[number])])
            self.ended.discard(number)
            self.retried[number] += 1
            self.join(number, self.values[number])

    @rule(seconds=st.sampled_from([100, 1_000, 10_000]))
    def advance(self, seconds):
        clock.advance(seconds)
        # They renew their leases.
        Worker.objects.update(lease_until=clock.now() + timedelta(seconds=60))

    @rule()
    def queue_a_chunk(self):
        """Those that join are due, of each share in a queue the longest, and as many shares as one chunk has."""
        due = {number for number, (at, _) in self.scheduled.items() if at <= clock.now()}
        before = self.read_scheduled()
        process = Upkeep(Where.SERVER, seconds=0)
        [duty] = [duty for duty in process.duties if duty.name == "queue jobs that are due"]
        assert process.run(duty) == bool(due)
        moved = [number for number in self.by_due_time(before - self.read_scheduled()) if number]
        assert set(moved) <= due and bool(moved) == bool(due)
        levels = {
            level: [number for number in self.by_due_time(due) if self.level_of(number) == level]
            for level in map(self.level_of, self.scheduled)
        }
        for level, numbers in levels.items():
            taken = [number for number in moved if self.level_of(number) == level]
            assert taken == numbers[: len(taken)], "A job joined before one of its share that was due before."
        with_due = [level for level, numbers in levels.items() if numbers]
        taken = Counter(map(self.level_of, moved))
        others = [
            level
            for level in with_due
            if level not in {self.level_of(n) for n in self.by_due_time(due)[:CHUNK]}
        ]
        assert sum(level in taken for level in others) == min(len(others), CHUNK), "A share waits for others."
        for number in moved:
            self.join(number, self.scheduled.pop(number)[1])

    def level_of(self, number):
        values = self.scheduled[number][1]
        return values["share"], values["queue"], values["priority"]

    def by_due_time(self, numbers):
        return sorted(numbers, key=lambda number: (self.scheduled[number][0], self.ids[number]))

    def read_scheduled(self):
        ids = Job.objects.filter(state="queued", due_at__isnull=False).values_list("id", flat=True)
        return {self.numbers[str(id)] for id in ids}

    # Out of it.

    @rule(worker=worker, count=count)
    def claim(self, worker, count):
        rows = claim_rows(self.leases[worker], count, queues=QUEUES)
        jobs = {self.numbers[str(row.id)]: row for row in rows}
        expired = self.find_expired()
        waiting = {
            job.number: job
            for job in self.model.jobs
            if self.queue_of(job) not in self.model.paused and job.number not in expired
        }
        assert jobs.keys() <= waiting.keys(), (
            "A job began that is not in the queue, has expired, or whose queue is paused."
        )
        taken = [waiting[number] for number in jobs]
        # Behind jobs that have expired, a claim looks when they have ended.
        assert len(taken) == min(count, len(waiting)) or expired, "A slot was left free."
        # Of each queue the first ones. Which queue is the first one is random.
        for name in {job.queue for job in waiting.values()}:
            of_queue = sorted(job for job in waiting.values() if job.queue == name)
            mine = sorted(job for job in taken if job.queue == name)
            assert mine == of_queue[: len(mine)], "A job began out of turn."
        if len({job.level for job in waiting.values()}) == 1:
            counts = Counter(job.queue for job in taken)
            left = Counter(job.queue for job in waiting.values()) - counts
            for name in left:
                assert counts[name] >= max(counts.values(), default=0) - 1, "A queue waits for another."
        self.model.take(taken, is_full=len(taken) == count)
        for job in taken:
            self.expiring.pop(job.number, None)
            assert not any(job.number in running for running in self.running.values())
            self.begun[job.number] += 1
            self.running[worker][job.number] = (job, jobs[job.number])

    @staticmethod
    def queue_of(job):
        return job.queue.partition("/")[0]

    @rule(worker=worker)
    def succeed(self, worker):
        for number, (_, row) in self.running[worker].items():
            record(succeeded(row))
            self.ended.add(number)
        self.running[worker].clear()

    @rule(worker=worker, delay=st.sampled_from([0, 2_000]))
    def fail_and_retry(self, worker, delay):
        before = clock.now()
        running, self.running[worker] = self.running[worker], {}
        schedule_retries([row for _, row in running.values()], delay)
        for number, (job, row) in sorted(running.items(), key=lambda item: item[1][1].id):
            values = {"share": job.share, "queue": self.queue_of(job), "priority": -job.level}
            if delay:
                at = Job.objects.get(id=row.id).due_at
                assert at >= before + timedelta(seconds=delay - 1)
                self.scheduled[number] = (at, values)
            else:
                self.join(number, values)

    @precondition(lambda self: any(self.running.values()))
    @rule(worker=worker)
    def kill(self, worker):
        """What it ran is queued again with its turns, and begins alone: one may have killed the process.

        So is what another worker runs past its deadline.
        """
        Worker.objects.filter(id=self.leases[worker]).update(lease_until=clock.now() - timedelta(seconds=1))
        run_duty("take jobs from lost workers")
        self.leases[worker] = self.new_lease()
        for other, running in self.running.items():
            for number, (job, row) in list(running.items()):
                if other == worker or row.deadline < clock.now():
                    del running[number]
                    job.queue = f"{self.queue_of(job)}/quarantined"
                    self.model.jobs.append(job)
                    record(succeeded(row))  # It was frozen only, and changes nothing.

    @rule(data=st.data())
    def cancel_one(self, data):
        waiting = [*self.scheduled, *(job.number for job in self.model.jobs)]
        if not waiting:
            return
        number = data.draw(st.sampled_from(sorted(waiting)))
        with TestCase.captureOnCommitCallbacks(execute=True):
            cancel([UUID(self.ids[number])])
        self.leave(number)
        self.ended.add(number)

    @rule(queue=queue)
    def pause_or_resume(self, queue):
        is_paused = queue not in self.model.paused
        (self.model.paused.add if is_paused else self.model.paused.discard)(queue)
        with TestCase.captureOnCommitCallbacks(execute=True):
            pause_queue(queue, is_paused=is_paused)

    @invariant()
    def states_are_those_of_the_simulation(self):
        if not hasattr(self, "leases"):
            return
        claimed = Job.objects.filter(state="running", worker__isnull=False)
        assert claimed.count() == sum(map(len, self.running.values()))
        assert self.read_scheduled() == self.scheduled.keys()
        in_queue = Job.objects.filter(state="queued", due_at=None).values_list("id", "turn")
        assert {(self.numbers[str(id)], turn) for id, turn in in_queue} == {
            (job.number, job.turn) for job in self.model.jobs
        }

    def teardown(self):
        try:
            if hasattr(self, "leases"):
                self.drain()
        finally:
            clock.reset()
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    def drain(self):
        """All that waits begins, and each job ends once."""
        for name in sorted(self.model.paused):
            self.pause_or_resume(name)
        self.advance(100_000)
        self.end_expired()
        for _ in range(2 * len(self.ids) + 4):
            self.queue_a_chunk()
            for number in WORKERS:
                self.claim(number, 4)
                self.succeed(number)
        assert self.ended == self.ids.keys(), "A job never began."
        fences = Job.objects.filter(id__in=self.ids.values()).values_list("id", "fence")
        assert Counter({self.numbers[str(id)]: fence for id, fence in fences}) == self.begun + self.retried


@pytest.mark.database_law
def test_jobs_begin_as_in_the_simulation(db, monkeypatch, set_bounds):
    set_bounds(known=0.0)
    monkeypatch.setattr(queueing, "max_rows", lambda: CHUNK)
    run_state_machine_as_test(
        OneQueue,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
