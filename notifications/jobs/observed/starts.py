"""Write the starts of observed tasks: each, also a redelivery of the same message, raises the fence.

That of a task that has ended already is written with its end, in one UPDATE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from notifications import streams
from notifications.db.bulk import column_values
from notifications.extension import RecordedTransaction
from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.claims import PROGRESS_COLUMNS
from notifications.jobs.transitions.conditional_updates import update_locked_rows
from notifications.jobs.transitions.recording import record_attempts
from notifications.models import ACTIVE, Job

#: What a start changes of a row, besides its state and version, and the progress, which an end writes too.
START_COLUMNS = (
    *("worker", "process_id", "acks_late", "started_at", "attempt", "max_attempts", "fence"),
    *("run_after", "expires_at"),
)
#: Seconds by which two records of one start may differ.
SAME_START_SECONDS = 0.1


@dataclass(eq=False, kw_only=True)
class ObservedAttempt:
    """One start of an observed task, and its end.

    ``id``
        That of the job.
    ``worker``, ``process_id``, ``number``
        The worker, the process of it that runs the task, and the number of the attempt from 1.
    ``acks_late``
        The broker delivers the message again if that process is lost.
    ``make_job``
        Returns the unsaved row of the message.
    ``outcome``
        The end, made for ``job``, or a function that makes it for a row; None while the task runs.
    ``remake``
        Makes the outcome again for a row with another title, link, language or owner than ``job`` had.
    ``policy``
        That of the task.
    """

    id: UUID
    worker: UUID
    number: int
    policy: Policy
    make_job: Callable[[], Job]
    process_id: int | None = None
    acks_late: bool = False
    outcome: Outcome | Callable[[Job], Outcome] | None = None
    remake: Callable[[Job], Outcome] | None = None
    #: When the task started (monotonic).
    started_at: float = field(default_factory=time.monotonic)
    #: The start is recorded.
    is_begun: bool = False
    #: The fence of the recorded start. That of ``job`` is raised before the commit, which may fail.
    fence: int = 0
    #: The job is done already, runs elsewhere, or is not one of an observed task. Nothing is recorded any more.
    is_void: bool = False
    #: The end is recorded.
    is_ended: bool = False
    #: How often in a row a hook of an extension has failed at it, until when it waits therefore (monotonic), and which.
    #: The app that observes the task changes them.
    hook_failures: int = 0
    held_until: float = 0.0
    held_by: str = ""
    #: When its progress was last stored (monotonic).
    progress_stored_at: float = 0.0

    @property
    def job(self) -> Job:
        """The job as this process knows it: until the start is recorded, the row of the message, running.

        It is made when it is first read: most tasks, and the records of jobs that have a row, do without.
        """
        if (job := vars(self).get("_job")) is None:
            job = self.make_job()
            job.state, job.attempt, job.worker = Job.State.RUNNING, self.number, self.worker
            job = vars(self).setdefault("_job", job)  # another thread may have been faster
        return job

    def job_or(self, row: Job) -> Job:
        """Return the job as this process knows it, which is this row of the database if it was not read yet."""
        if "_job" not in vars(self):  # before the task may report its own
            row.progress_current, row.progress_total, row.progress_message = None, None, ""
        job: Job = vars(self).setdefault("_job", row)
        return job


def write_starts(
    starts: Sequence[tuple[ObservedAttempt, Job]],
    now: datetime,
    tx: RecordedTransaction,
    ended: Collection[UUID],
) -> None:
    """Start the attempts whose rows are locked, and complete their jobs by what the rows say.

    The caller writes ``START_COLUMNS`` of the jobs whose ids are in ``ended``, with their ends.
    """
    # The retry of a task may begin before the end of the attempt is recorded, which schedule_retry() does then.
    interrupted = [
        outcomes.interrupted(row)
        for attempt, row in starts
        if row.state == Job.State.RUNNING
        and row.attempt >= attempt.number
        and not _is_recorded(attempt, row, now)
    ]
    if interrupted:
        record_attempts(interrupted, tx)
    begun = []
    for attempt, row in starts:
        seconds = max(time.monotonic() - attempt.started_at, 0.0)
        row.state, row.worker = Job.State.RUNNING, attempt.worker
        row.process_id, row.acks_late = attempt.process_id, attempt.acks_late
        row.run_after = row.expires_at = None
        row.started_at = now - timedelta(seconds=seconds)
        row.attempt, row.max_attempts = attempt.number, max(row.max_attempts, attempt.number)
        row.fence += 1
        if row.id not in ended:
            row.version += 1
            begun.append(row)
        job = attempt.job_or(row)
        if job is not row:
            progress = {name: job.__dict__[name] for name in PROGRESS_COLUMNS}
            job.__dict__.update(row.__dict__, **progress)
    update_locked_rows(
        START_COLUMNS,
        list(zip(column_values(Job, START_COLUMNS, begun), begun, strict=True)),
        assignments=(
            "state = 'running'",
            "version = version + 1",
            *(f"{name} = NULL" for name in ("progress_current", "progress_total")),
            "progress_message = ''",
        ),
        states=ACTIVE,
        fence=lambda job: job.fence - 1,
    )
    streams.ring([row.user_id for row in begun])


def _is_recorded(attempt: ObservedAttempt, row: Job, now: datetime) -> bool:
    """Return whether a row has this very start, which another process has recorded that was killed since."""
    if row.worker != attempt.worker or row.attempt != attempt.number or row.started_at is None:
        return False
    seconds = (now - row.started_at).total_seconds() - (time.monotonic() - attempt.started_at)
    return abs(seconds) < SAME_START_SECONDS
