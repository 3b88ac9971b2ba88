"""Workers in separate processes, a process that enqueues jobs, and the effects that tasks write to a file.

FAULT_ROUNDS=100    rounds of the long form; without it these tests run a short form
FAULT_SEED=…        repeat the choices of a failed run; processes that race may still behave differently
"""

import os
import random
import re
import threading
import uuid
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from tests.support.driver import Driver
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "0"))
SEED = os.environ.get("FAULT_SEED") or str(random.randrange(10**5))
#: Longer than any test, so that a test cannot pass only because a lease ended.
LONG_LEASE_SECONDS = 600
#: The timeout of each wait.
TIMEOUT_SECONDS = 60
UNNUMBERED = """
SELECT (SELECT count(*) FROM notifications_job WHERE seq IS NULL)
     + (SELECT count(*) FROM notifications_notification WHERE seq IS NULL)
"""
ACTIVE = (
    f"{UNNUMBERED} + (SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running', 'waiting'))"
)
UNFINISHED = """
SELECT id, state, seq, attempt, worker, run_after, deadline FROM notifications_job
WHERE state IN ('queued', 'running', 'waiting') OR seq IS NULL
"""
TOTALS = """
SELECT outcome, sum(count) FROM notifications_operations_jobstatistics WHERE period = 4 OR shard > 0 GROUP BY outcome
"""
WORKERS = "SELECT id, process, lease_until FROM notifications_worker"
JOBS = """
SELECT id, user_id, state, attempt, max_attempts, result, error, task_path, args, progress_message
FROM notifications_job ORDER BY id
"""


@dataclass(frozen=True, kw_only=True)
class JobRow:
    id: str
    user: int | None
    state: str
    attempt: int
    max_attempts: int
    result: str | None
    error: str | None
    task: str
    args: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A line that a task wrote, with the job, its attempt and the process."""

    job: str
    attempt: int
    pid: int
    event: str


class Engine:
    """The workers of a site and the effects of their jobs. Close it before the site."""

    def __init__(self, site, name, lease=LONG_LEASE_SECONDS, **environment):
        self.site = site
        self.rng = random.Random(f"{SEED} {name}")
        self.effects_file, self.gates = site.folder / "effects", site.folder / "gates"
        self._starting = threading.Lock()  # The environment belongs to one start at a time.
        self.effects_file.touch()
        self.gates.mkdir()
        site.notifications |= {"LEASE": lease, "ACTIVE_JOBS_PER_USER": 10**5}
        site.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.support.faults.engine_settings",
            "EMBEDDED_WORKER": "0",
            "FAULT_EFFECTS": str(self.effects_file),
            "FAULT_GATES": str(self.gates),
            **environment,
        }
        print(f"FAULT_SEED={SEED}")

    @cached_property
    def driver(self):
        return Driver(self.site, "tests.support.faults.engine_actions")

    def start_worker(self, *arguments, fault=""):
        """Start a worker with a fault of statement_faults.py, without waiting for it."""
        with self.fault_of_next_process(fault):
            return self.site.start("worker", "manage.py", "run_jobs", *arguments)

    @contextmanager
    def fault_of_next_process(self, fault):
        """Give a fault of statement_faults.py to the process that is started in the block."""
        with self._starting:
            self.site.environment["FAULT_AT_STATEMENT"] = fault
            try:
                yield
            finally:
                del self.site.environment["FAULT_AT_STATEMENT"]

    def enqueue(self, task, count=1, *, args=(), user="demo", batch_size=50):
        """Enqueue jobs of a task in tests/support/faults/tasks.py; return their ids."""
        return self.driver.call(
            "enqueue_jobs", task=task, count=count, args=args, user=user, batch_size=batch_size
        )

    def open_gate(self, pid="all"):
        """Let the jobs that wait for a gate continue, in one process or in all."""
        (self.gates / str(pid)).touch()

    def close_gates(self):
        for gate in self.gates.iterdir():
            gate.unlink()

    def effects(self, *events, jobs=None):
        """Return the effects so far, or only those of these events and jobs."""
        lines = [line.split() for line in self.effects_file.read_text().splitlines()]
        return [
            Effect(job=job, attempt=int(attempt), pid=int(pid), event=event)
            for job, attempt, pid, event in lines
            if (not events or event in events) and (jobs is None or job in jobs)
        ]

    def wait_until_started(self, jobs, count=None):
        """Wait until these jobs have started `count` times in total, by default once each; return these effects."""
        count = count or len(jobs)
        return wait_until(
            lambda: len(started := self.effects("started", jobs=jobs)) >= count and started,
            timeout=TIMEOUT_SECONDS,
            what=f"{count} starts of {len(jobs)} jobs",
        )

    def jobs(self, ids=None):
        """Return all jobs, or those with these ids, oldest first."""
        names = (
            "id",
            "user",
            "state",
            "attempt",
            "max_attempts",
            "result",
            "error",
            "task",
            "args",
            "message",
        )
        rows = [dict(zip(names, row, strict=True)) for row in self.site.rows(JOBS)]
        jobs = [
            JobRow(**row | {"id": canonical(row["id"]), "task": row["task"].rpartition(".")[2]})
            for row in rows
        ]
        return jobs if ids is None else [job for job in jobs if job.id in ids]

    def wait_until_done(self, timeout=TIMEOUT_SECONDS):
        """Wait until no job is active, as long as one ends within ``timeout`` seconds."""
        try:
            while active := self.active():
                # A worker runs quarantined jobs one at a time: after many kills that takes minutes.
                wait_until(
                    lambda active=active: self.active() < active,
                    timeout=timeout,
                    every=0.1,
                    what="all jobs to be done",
                )
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.site.rows(UNFINISHED)}\n{self.site.rows(WORKERS)}"
            ) from error

    def wait_until_all_done(self, ids, state="succeeded"):
        """Wait until all these jobs have this state."""
        done = f"SELECT id FROM notifications_job WHERE state = '{state}'"
        wait_until(
            lambda: set(ids) <= {canonical(id) for (id,) in self.site.rows(done)},
            timeout=TIMEOUT_SECONDS,
            what=f"{len(ids)} jobs to be {state}",
        )

    def wait_until_numbered(self):
        wait_until(lambda: self.site.rows(UNNUMBERED)[0][0] == 0, what="every row to have a seq")

    def active(self):
        return self.site.rows(ACTIVE)[0][0]

    def notifications(self):
        rows = self.site.rows("SELECT id, job, level FROM notifications_notification ORDER BY id")
        return [(canonical(id), job and canonical(job), level) for id, job, level in rows]

    def read_all_rows(self):
        """Return all rows that a stale worker could change."""
        return {
            table: sorted(self.site.rows(f"SELECT * FROM notifications_{table}"), key=str)
            for table in ("job", "notification", "attempt")
        }

    def assert_invariants(self, silent=()):
        """Check that each job ended once with one notification, no attempt ran twice, and the seqs have no gap.

        `silent` are the jobs whose owner is not notified.
        """
        jobs = self.jobs()
        assert {job.state for job in jobs} <= {"succeeded", "failed", "cancelled"}
        for job in jobs:
            assert 0 <= job.attempt <= job.max_attempts, job
        # Without a job: alerts, to the superuser.
        notified = Counter(job for _, job, _ in self.notifications() if job)
        owned = [job.id for job in jobs if job.user is not None and job.id not in silent]
        assert notified == Counter(owned), "Not every job has exactly one notification."
        started = Counter((effect.job, effect.attempt) for effect in self.effects("started"))
        twice = {job for (job, _), count in started.items() if count > 1}
        # A worker that stops, as Celery's may by itself when Redis is away, does not count the attempts that it ends.
        released = sum(int(count) for count in re.findall(r"jobs released: (\d+)", self.site.log()))
        extra = started.total() - len(started)
        assert extra <= released, (
            f"An attempt ran twice, {released} were released: {self.effects(jobs=twice)}"
        )
        attempts = {job.id: job.attempt for job in jobs}
        assert all(attempt <= attempts[job] for job, attempt in started), "An attempt was not counted."
        self.assert_attempts(jobs)
        self.assert_statistics(jobs)
        self.assert_no_gap()

    def assert_attempts(self, jobs):
        recorded = defaultdict(list)
        rows = self.site.rows("SELECT job_id, number FROM notifications_attempt ORDER BY job_id, number")
        for job, number in rows:
            recorded[canonical(job)].append(number)
        for job in jobs:
            unsuccessful = job.attempt if job.state != "succeeded" else job.attempt - 1
            assert recorded[job.id] == list(range(1, unsuccessful + 1)), job

    def assert_statistics(self, jobs):
        """Check that each end of a job, and each lost attempt, is counted exactly once."""
        lost = self.site.rows("SELECT count(*) FROM notifications_attempt WHERE outcome = 'lost'")[0][0]
        counted = self.totals()
        lost_and_ended = {name: counted.get(name, 0) for name in ("succeeded", "failed", "cancelled", "lost")}
        ended = Counter(job.state for job in jobs)
        assert lost_and_ended == {name: ended[name] for name in lost_and_ended} | {"lost": lost}

    def totals(self):
        """Return how many ends and attempts the statistics count, by outcome."""
        return {outcome: int(count) for outcome, count in self.site.rows(TOTALS)}

    def assert_no_gap(self):
        numbers = defaultdict(list)
        for user, seq in self.site.rows(
            "SELECT user_id, seq FROM notifications_job WHERE user_id IS NOT NULL "
            "UNION ALL SELECT user_id, seq FROM notifications_notification"
        ):
            numbers[user].append(seq)
        heads = dict(self.site.rows("SELECT user_id, head FROM notifications_stream"))
        for user, seqs in numbers.items():
            assert sorted(seqs) == list(range(1, heads[user] + 1)), f"The seqs of user {user} have a gap."

    def close(self):
        self.open_gate()
        if "driver" in self.__dict__:
            self.driver.stop()


def canonical(id):
    """Return a UUID as text: SQLite stores it without dashes, psycopg returns an object."""
    return str(uuid.UUID(str(id)))
