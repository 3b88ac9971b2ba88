"""Reading jobs through the public API: frozen copies of their rows, with their pace in words.

No model is imported at the top: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils.formats import number_format
from django.utils.translation import gettext

from notifications import times
from notifications.db.adapters import user_keys_of
from notifications.db.async_twins import names_async_twin
from notifications.db.keyset import NEWEST_FIRST
from notifications.db.transactions import database
from notifications.db.unavailable import log_damage
from notifications.exceptions import JobDoesNotExist
from notifications.ids import id_of
from notifications.states import DONE, JobStateName, describe_state, is_cancelling

if TYPE_CHECKING:
    from notifications.models import Job

#: Seconds before the pace of a job is shown: earlier, one slow step would make the estimate meaningless.
MIN_ELAPSED_SECONDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitInfo:
    """Something that a job waits for.

    ``kind``
        ``"pause"``, ``"question"``, ``"callback"``, or that of another app.
    ``name``
        As it was passed to ``pause()``, ``question()``, ``callback()`` or ``wait_for()``.
    ``title``
        That of the question, or of ``wait_for()``; of other kinds the name.
    ``until``
        When it ends by itself, an aware datetime in UTC; None for never.
    """

    kind: str
    name: str
    title: str
    until: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobInfo:
    """A job as it was when it was read. It does not follow later changes.

    ``id``
        What ``enqueue`` returned as its ``id``, as a UUID.
    ``owner_id``
        The primary key of the user who owns the job, or None. Jobs of a batch usually have none.
    ``task_path``, ``queue_name``
        The dotted path of the task and the name of the queue.
    ``title``, ``url``
        What the owner reads, and the link to the result or ``""``.
    ``state``
        ``"queued"``, ``"running"``, ``"waiting"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    ``attempt``, ``max_attempts``
        The number of the latest attempt, 0 before the first one, and the limit.
    ``progress_current``, ``progress_total``, ``progress_message``
        What the task reported last. The numbers are None while they are unknown.
    ``result``
        What the task returned, if the job succeeded, else None.
    ``error``
        Why the job failed or was cancelled, a dict with ``type``, ``title`` and ``detail``, else None.
    ``cancelled_by_other``
        Whether the job was cancelled, or is being cancelled, by another user than its owner.
    ``run_after``, ``expires_at``, ``created_at``, ``started_at``, ``finished_at``, ``cancel_requested_at``
        Aware datetimes in UTC. All but ``created_at`` may be None. ``started_at`` is that of the latest attempt.
        ``expires_at`` is when a queued job fails that has not begun.
    ``version``
        A number that grows with each change of the job.
    ``waiting``
        What a waiting job waits for, a ``WaitInfo`` each: all of it has to end. Empty in other states.
    """

    id: UUID
    owner_id: Any
    task_path: str
    queue_name: str
    title: str
    url: str
    state: JobStateName
    attempt: int
    max_attempts: int
    progress_current: int | None
    progress_total: int | None
    progress_message: str
    result: Any
    error: dict[str, str] | None
    cancelled_by_other: bool
    run_after: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    version: int
    waiting: tuple[WaitInfo, ...] = ()
    expires_at: datetime | None = None

    @property
    def state_label(self) -> str:
        """The state in words, in the active language: "Running", or "Queued, retry at 14:05"."""
        return describe_state(self)

    @property
    def elapsed_label(self) -> str:
        """How long the attempt has been running, "Running for 3 min"; ``""`` if the job is not running."""
        return describe_elapsed(self)

    @property
    def took_label(self) -> str:
        """How long the last attempt of a done job took, "Took 14 s"; ``""`` if it is not done or was never started."""
        return describe_took(self)

    @property
    def pace_label(self) -> str:
        """The pace in words, "4.2 per second, about 2 min left", while it is known; otherwise ``""``."""
        return describe_pace(self)

    @property
    def is_done(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self.state in DONE


#: The fields that are copied from the row as they are.
_COPIED = [
    name
    for name in JobInfo.__dataclass_fields__
    if name not in ("owner_id", "result", "error", "waiting", "expires_at")
]


@names_async_twin
def get_job(id: UUID | str) -> JobInfo:
    """Return a job as it is now. Raises ``JobDoesNotExist`` of ``notifications.exceptions``.

    It does not check who asks. Compare ``owner_id`` with the user before showing a job whose id came from a request.
    """
    for job in get_jobs([id]).values():
        return job
    raise JobDoesNotExist(id)


@names_async_twin
def get_jobs(ids: Iterable[UUID | str]) -> dict[UUID, JobInfo]:
    """Return the jobs with these ids, by id, in one query, and one more if some of them wait.

    Ids without a job are left out.
    """
    keys = {id_of(id, f"The id of a job must be a UUID or a string, not {type(id).__name__}.") for id in ids}
    keys.discard(None)
    return {info.id: info for info in _describe(_rows().in_bulk(keys).values())}


@names_async_twin
def jobs_of(user: Any, *, limit: int = 100) -> list[JobInfo]:
    """Return the newest jobs that a user (or primary key) owns, by ``created_at``, newest first, at most ``limit``.

    Done jobs are included until they are pruned.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit is {limit!r}. It must be an integer of 1 or more.")
    [key] = user_keys_of([user])
    return _describe(NEWEST_FIRST.sort(_rows().filter(user_id=key))[:limit])


def _rows() -> Any:
    from notifications.models import Job

    return Job.objects.using(database()).only(
        *("user_id", "result", "error", "executor", "expires_at"), *_COPIED
    )


def _describe(jobs: Iterable[Job]) -> list[JobInfo]:
    from notifications.models import Wait

    jobs = list(jobs)
    waits: dict[UUID, list[WaitInfo]] = {}
    if waiting := [job.id for job in jobs if job.state == "waiting"]:
        rows = Wait.objects.using(database()).filter(job__in=waiting, is_awaited=True, ended_at=None)
        for row in rows.order_by("id"):
            wait = WaitInfo(kind=row.kind, name=row.name, title=row.title or row.name, until=row.due_at)
            waits.setdefault(row.job, []).append(wait)
    return [
        JobInfo(
            owner_id=job.user_id,
            result=_decode(job, job.result),
            error=_decode(job, job.error),
            waiting=tuple(waits.get(job.id, ())),
            expires_at=job.expiry,
            **{name: getattr(job, name) for name in _COPIED},
        )
        for job in jobs
    ]


def _decode(job: Job, text: str | None) -> Any:
    """Return the value of a JSON column; None for one that another program has damaged, which the log names."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as exc:
        log_damage(f"job {job.id}", f"{type(exc).__name__}: {exc}")
        return None


def describe_elapsed(job: Any) -> str:
    """Return how long the attempt of a ``Job`` or ``JobInfo`` has been running: "Running for 3 min", else ``""``.

    The browser client computes it in the same way (``formatElapsed()``).
    """
    if job.state != "running" or not job.started_at:
        return ""
    # The clock of this process may be behind that of the worker's database.
    seconds = max(_seconds_since(job.started_at), 0)
    if seconds < 60:
        return gettext("Running for {count} s").format(count=_round(int(seconds)))
    if seconds < 3600:
        return gettext("Running for {count} min").format(count=_round(int(seconds // 60)))
    return gettext("Running for {count} h").format(count=_round(int(seconds // 3600)))


def describe_took(job: Any) -> str:
    """Return how long the last attempt of a done ``Job`` or ``JobInfo`` took: "Took 14 s", else ``""``."""
    if job.state not in DONE or not job.started_at or not job.finished_at:
        return ""
    seconds = max((times.as_utc(job.finished_at) - times.as_utc(job.started_at)).total_seconds(), 0.1)
    if seconds < 60:
        return gettext("Took {count} s").format(count=_round(seconds))
    if seconds < 3600:
        return gettext("Took {count} min").format(count=_round(seconds / 60))
    return gettext("Took {count} h").format(count=_round(seconds / 3600))


def describe_pace(job: Any) -> str:
    """Return the pace of a ``Job`` or ``JobInfo``: "4.2 per second, about 2 min left", or ``""`` if it is not known.

    It is known for the first attempt of a running job that is not being cancelled and has reported steps of a total for
    5 seconds: a later attempt continues the count of the one before. The browser client computes it in the same way
    (``formatPace()``).
    """
    current, total = job.progress_current, job.progress_total
    if job.state != "running" or is_cancelling(job) or job.attempt != 1:
        return ""
    if not current or total is None or current >= total:
        return ""
    elapsed = _seconds_since(job.started_at) if job.started_at else 0.0
    if elapsed < MIN_ELAPSED_SECONDS:
        return ""
    per_second = current / elapsed
    seconds_left = (total - current) / per_second
    return gettext("{rate}, {time}").format(
        rate=_describe_rate(per_second), time=_describe_time_left(seconds_left)
    )


def _seconds_since(moment: datetime) -> float:
    return (times.now() - times.as_utc(moment)).total_seconds()


def _describe_rate(per_second: float) -> str:
    if per_second >= 1:
        return gettext("{count} per second").format(count=_round(per_second))
    return gettext("{count} per minute").format(count=_round(per_second * 60))


def _describe_time_left(seconds: float) -> str:
    if seconds < 60:
        return gettext("about {count} s left").format(count=_round(max(1, round(seconds))))
    if seconds < 3600:
        return gettext("about {count} min left").format(count=_round(round(seconds / 60)))
    return gettext("about {count} h left").format(count=_round(seconds / 3600))


def _round(number: float) -> str:
    """Return a number of at least 10 without decimals, a smaller one with at most one."""
    rounded = round(number) if number >= 10 else round(number, 1)
    whole = int(rounded) if rounded == int(rounded) else rounded
    return number_format(whole, use_l10n=True, force_grouping=True)
