"""Workers in processes of their own, a process that asks them for jobs, and what these leave in a file.

FAULT_ROUNDS=100    rounds of the long form; without it the tests in here have a short one
FAULT_SEED=…        the choices of a failed run; where processes race they are only likely to do the same again
"""

import os
import random
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property

from tests.support.driver import Driver
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "0"))
SEED = os.environ.get("FAULT_SEED") or str(random.randrange(10**6))
#: Seconds, longer than any test: a worker's jobs go on before, or its lease was not what was waited for.
NEVER = 600
#: Seconds within which everything is done that can be done.
PATIENCE = 60
UNNUMBERED = """
SELECT (SELECT count(*) FROM notifications_job WHERE seq IS NULL)
     + (SELECT count(*) FROM notifications_notification WHERE seq IS NULL)
"""
ACTIVE = f"{UNNUMBERED} + (SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running'))"
LEFT = """
SELECT id, state, seq, attempt, worker, run_after, deadline FROM notifications_job
WHERE state IN ('queued', 'running') OR seq IS NULL
"""
LIVE = "SELECT id, process, lease_until FROM notifications_worker"
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
    """What a task wrote: in which attempt of which job, in which process."""

    job: str
    attempt: int
    pid: int
    word: str


class Engine:
    """The workers of a site and what they do. `close()` before the site's."""

    def __init__(self, site, name, lease=NEVER, **environment):
        self.site = site
        self.chance = random.Random(f"{SEED} {name}")
        self.effects_file, self.gates = site.folder / "effects", site.folder / "gates"
        self.effects_file.touch()
        self.gates.mkdir()
        site.notifications |= {"LEASE": lease, "ACTIVE_JOBS_PER_USER": 10**6}
        site.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.faults.support.engine_settings",
            "EMBEDDED_WORKER": "0",
            "FAULT_EFFECTS": str(self.effects_file),
            "FAULT_GATES": str(self.gates),
            **environment,
        }
        print(f"FAULT_SEED={SEED}")

    @cached_property
    def asker(self):
        return Driver(self.site, "tests.faults.support.engine_actions")

    def start_worker(self, *arguments, fate=""):
        """Start a worker, with the fate that deaths.py gives it; not waited for."""
        self.site.environment["FAULT_FATE"] = fate
        try:
            return self.site.start("worker", "manage.py", "run_jobs", *arguments)
        finally:
            del self.site.environment["FAULT_FATE"]

    def ask(self, task, count=1, *, args=(), user="demo", at_once=50):
        """Enqueue jobs of a task in tests/faults/support/tasks.py; return their ids."""
        return self.asker.call("ask", task=task, count=count, args=args, user=user, at_once=at_once)

    def open(self, pid="all"):
        """Let the jobs that are held go on, in one process or in all."""
        (self.gates / str(pid)).touch()

    def close_gates(self):
        for gate in self.gates.iterdir():
            gate.unlink()

    def effects(self, *words, jobs=None):
        """What was written so far, of these words only, of these jobs only."""
        lines = [line.split() for line in self.effects_file.read_text().splitlines()]
        return [
            Effect(job=job, attempt=int(attempt), pid=int(pid), word=word)
            for job, attempt, pid, word in lines
            if (not words or word in words) and (jobs is None or job in jobs)
        ]

    def until_begun(self, jobs, count=None):
        """Wait until these jobs have begun, so often in all; return the effects that say so."""
        count = count or len(jobs)
        return wait_until(
            lambda: len(begun := self.effects("began", jobs=jobs)) >= count and begun,
            timeout=PATIENCE,
            what=f"{count} beginnings of {len(jobs)} jobs",
        )

    def jobs(self, ids=None):
        """All jobs, or these, oldest first."""
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

    def until_done(self, timeout=PATIENCE):
        """Wait until no job is active and every row has its number."""
        try:
            wait_until(lambda: self.active() == 0, timeout=timeout, every=0.1, what="all jobs to be done")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.site.rows(LEFT)}\n{self.site.rows(LIVE)}") from error

    def until_all_done(self, ids, state="succeeded"):
        """Wait until these jobs are done, each in this state."""
        done = f"SELECT id FROM notifications_job WHERE state = '{state}'"
        wait_until(
            lambda: set(ids) <= {canonical(id) for (id,) in self.site.rows(done)},
            timeout=PATIENCE,
            what=f"{len(ids)} jobs to be {state}",
        )

    def until_numbered(self):
        wait_until(lambda: self.site.rows(UNNUMBERED)[0][0] == 0, what="every row to have its number")

    def active(self):
        return self.site.rows(ACTIVE)[0][0]

    def notifications(self):
        rows = self.site.rows("SELECT id, job, level FROM notifications_notification ORDER BY id")
        return [(canonical(id), job and canonical(job), level) for id, job, level in rows]

    def everything(self):
        """All that a stale worker could change."""
        return {
            table: sorted(self.site.rows(f"SELECT * FROM notifications_{table}"), key=str)
            for table in ("job", "notification", "attempt")
        }

    def assert_law(self, silent=()):
        """Each job ended once, was told once, its attempts are all there and none ran twice, numbers have no hole.

        `silent` are the jobs whose owner is not told.
        """
        jobs = self.jobs()
        assert {job.state for job in jobs} <= {"succeeded", "failed", "cancelled"}
        for job in jobs:
            assert 0 <= job.attempt <= job.max_attempts, job
        told = Counter(job for _, job, _ in self.notifications())
        owned = [job.id for job in jobs if job.user is not None and job.id not in silent]
        assert told == Counter(owned), "Not every job has told exactly once."
        begun = Counter((effect.job, effect.attempt) for effect in self.effects("began"))
        assert max(begun.values(), default=1) == 1, f"An attempt ran twice: {begun.most_common(1)}"
        attempts = {job.id: job.attempt for job in jobs}
        assert all(attempt <= attempts[job] for job, attempt in begun), "An attempt that was not counted."
        self.assert_attempts(jobs)
        self.assert_no_hole()

    def assert_attempts(self, jobs):
        recorded = defaultdict(list)
        rows = self.site.rows("SELECT job_id, number FROM notifications_attempt ORDER BY job_id, number")
        for job, number in rows:
            recorded[canonical(job)].append(number)
        for job in jobs:
            unsuccessful = job.attempt if job.state != "succeeded" else job.attempt - 1
            assert recorded[job.id] == list(range(1, unsuccessful + 1)), job

    def assert_no_hole(self):
        numbers = defaultdict(list)
        for user, seq in self.site.rows(
            "SELECT user_id, seq FROM notifications_job WHERE user_id IS NOT NULL "
            "UNION ALL SELECT user_id, seq FROM notifications_notification"
        ):
            numbers[user].append(seq)
        heads = dict(self.site.rows("SELECT user_id, head FROM notifications_stream"))
        for user, seqs in numbers.items():
            assert sorted(seqs) == list(range(1, heads[user] + 1)), f"The numbers of user {user} have a hole."

    def close(self):
        self.open()
        if "asker" in self.__dict__:
            self.asker.stop()


def canonical(id):
    """A UUID as text: SQLite has it without dashes, PostgreSQL as an object."""
    return str(uuid.UUID(str(id)))
