"""Record starts and ends of observed tasks in groups: one transaction for all that wait."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from notifications import streams
from notifications.db.bulk import insert_rows, lock_sql, select_rows, where_in
from notifications.db.clock import database_now
from notifications.db.transactions import chunks, retrying_atomic
from notifications.db.unavailable import UNAVAILABLE
from notifications.extension import RecordedTransaction
from notifications.extension.calls import hook_of
from notifications.jobs import outcomes
from notifications.jobs.observed.changes import requeue_guesses
from notifications.jobs.observed.starts import START_COLUMNS, ObservedAttempt, write_starts
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import notify_functions
from notifications.jobs.transitions.conditional_updates import prepare_id
from notifications.jobs.transitions.recording import end_jobs
from notifications.models import ACTIVE, Job

logger = logging.getLogger("notifications.jobs")

#: Notes when to record an attempt again at which a hook of an extension has failed, with this error.
Hold = Callable[[ObservedAttempt, Exception], object]

#: Rows that one transaction inserts at most.
MAX_INSERTED_ROWS = 100
#: What the owner reads of a job, which the outcome was made with.
_SHOWN_FIELDS = ("user_id", "inbox_group", "title", "url", "language")


def insert(rows: Sequence[Job]) -> None:
    """Insert the queued jobs of published messages, but those that exist. Rings for their owners.

    A row that the database refuses is logged. Raises ``django.db.OperationalError`` or ``InterfaceError`` while the
    database is away.
    """
    ordered = _in_order(rows)

    def write(chunk: Sequence[Job]) -> None:
        # The worker may have the message before its publisher has inserted the job. Without an error, which would make
        # a caller's transaction unusable on PostgreSQL.
        insert_rows(chunk, ignore_conflicts=True)
        streams.ring([job.user_id for job in chunk])

    def insert_chunk(chunk: Sequence[Job]) -> None:
        try:
            retrying_atomic(lambda: write(chunk))
        except UNAVAILABLE:
            raise
        except Exception:  # SQLite raises OverflowError for a number that is too large
            if len(chunk) == 1:
                logger.exception("Could not insert the job of an observed task: job %s", chunk[0].id)
            else:
                for row in chunk:
                    insert_chunk([row])

    for chunk in chunks(ordered, MAX_INSERTED_ROWS):
        insert_chunk(chunk)


def record(group: Sequence[ObservedAttempt], *, is_alone: bool = False) -> list[ObservedAttempt]:
    """Record the starts, and the ends that are known, of attempts at different jobs.

    Each start, also a redelivery of the same message, raises the fence. Returns the attempts whose rows are locked by
    other transactions: try them again. Raises like ``recording.record_outcomes``, also with ``is_alone``, and then has
    recorded none.
    """
    # The task may end, or a task of another thread, while this runs.
    group = [attempt for attempt in group if not attempt.is_ended and not attempt.is_void]
    if not group:
        return []
    known_outcomes = [_known_outcome(attempt) for attempt in group]
    found = _Group()

    def lock_rows(tx: RecordedTransaction) -> tuple[list[Outcome], datetime]:
        nonlocal found
        found = _Group()
        rows = _lock_rows(group)
        now = database_now()
        starts: list[tuple[ObservedAttempt, Job]] = []
        guesses: list[Job] = []
        for attempt, outcome in zip(group, known_outcomes, strict=True):
            row = rows.get(attempt.id)
            if row is None:
                found.locked_attempts.append(attempt)
                continue
            if not _may_record(attempt, row):
                found.void_attempts.append(attempt)
                continue
            if outcomes.is_guess(row):
                if outcome is None and not _is_corrected_by_start(row, attempt):
                    continue
                guesses.append(row)
            is_start = not attempt.is_begun or row.state != Job.State.RUNNING
            if is_start:
                starts.append((attempt, row))
            if outcome is not None:
                end = _outcome_for(row, attempt, outcome)
                (found.ends if end.notify is None else found.remade_ends).append((attempt, end))
                if is_start and end.notify is None:
                    found.started_with_end.add(row.id)
        requeue_guesses(guesses)
        tx.now = now
        write_starts(starts, now, tx, found.started_with_end)
        found.begun_attempts = [attempt for attempt, _ in starts]
        return [outcome for _, outcome in found.ends], now

    end_jobs(
        lock_rows,
        states=ACTIVE,
        is_alone=is_alone,
        columns=START_COLUMNS,
        fence=lambda job: job.fence - (job.id in found.started_with_end),
        after_commit=lambda _: found.mark_attempts(),
    )
    made = notify_functions.call_all([outcome for _, outcome in found.remade_ends])
    for (attempt, _), outcome in zip(found.remade_ends, made, strict=True):
        attempt.outcome = outcome
        found.locked_attempts.append(attempt)  # its start is recorded, so its end is not remade again
    return found.locked_attempts


def _known_outcome(attempt: ObservedAttempt) -> Outcome | Callable[[Job], Outcome] | None:
    """Return the end of an attempt, None while it runs or its notify function is to be called first."""
    outcome = attempt.outcome
    return None if isinstance(outcome, Outcome) and outcome.notify else outcome


@dataclass(slots=True)
class _Group:
    """The attempts that one transaction has found, by what it did with them."""

    begun_attempts: list[ObservedAttempt] = field(default_factory=list)
    void_attempts: list[ObservedAttempt] = field(default_factory=list)
    locked_attempts: list[ObservedAttempt] = field(default_factory=list)
    ends: list[tuple[ObservedAttempt, Outcome]] = field(default_factory=list)
    #: The jobs whose starts are written with their ends.
    started_with_end: set[UUID] = field(default_factory=set)
    #: Ends that were made anew, whose notify functions are to be called first.
    remade_ends: list[tuple[ObservedAttempt, Outcome]] = field(default_factory=list)

    def mark_attempts(self) -> None:
        """Store on the attempts what is recorded of them, after the commit."""
        for attempt in self.begun_attempts:
            attempt.fence, attempt.is_begun = attempt.job.fence, True
        for attempt, _ in self.ends:
            attempt.is_ended = True
        for attempt in self.void_attempts:
            attempt.is_void = True
            logger.warning(
                "Execution is not recorded, its job is done, runs elsewhere or is another one: job %s",
                attempt.id,
            )


def record_or_refuse(group: Sequence[ObservedAttempt], hold: Hold) -> list[ObservedAttempt]:
    """Record attempts as ``record`` does. An end that the database refuses becomes a failure.

    A start that is refused is logged. One at which a hook of an extension fails is passed to ``hold`` with the error,
    and returned. Raises ``django.db.OperationalError`` or ``InterfaceError`` while the database is
    away.
    """
    try:
        return record(group)
    except Exception as exc:
        if _is_unavailable(exc):
            raise
        if len(group) == 1:
            return _record_alone(group[0], hold)
    # In halves: one refused end among 400 costs 20 transactions.
    half = len(group) // 2
    return [*record_or_refuse(group[:half], hold), *record_or_refuse(group[half:], hold)]


def _record_alone(attempt: ObservedAttempt, hold: Hold) -> list[ObservedAttempt]:
    """Record an attempt by which it can be seen whether its outcome or a hook of an extension is refused."""
    try:
        return record([attempt], is_alone=True)
    except Exception as exc:
        if _is_unavailable(exc):
            raise
        if hook_of(exc):
            hold(attempt, exc)
            return [attempt]
        return _record_refused(attempt, exc, hold)


def _is_unavailable(exc: Exception) -> bool:
    return isinstance(exc, UNAVAILABLE) and hook_of(exc) is None


def _record_refused(attempt: ObservedAttempt, exc: Exception, hold: Hold) -> list[ObservedAttempt]:
    """Record an end that the database refused as a failure. Returns the attempt if its row is locked."""
    try:
        if attempt.outcome is None:
            raise exc
        # Without its notify function: the other attempts would wait for it.
        attempt.outcome = replace(
            outcomes.failure(attempt.job, attempt.policy, "result-not-storable", exc), notify=None
        )
        return record([attempt], is_alone=True)
    except Exception as error:
        if _is_unavailable(error):
            raise
        if hook_of(error):
            hold(attempt, error)
            return [attempt]
        logger.exception("Could not record job %s", attempt.id)
        return []


def _lock_rows(attempts: Sequence[ObservedAttempt]) -> dict[UUID, Job]:
    """Lock and return the rows of attempts by id. Those that do not exist are inserted, queued.

    Without the rows that other transactions hold locked.
    """
    rows = {job.id: job for job in _select([attempt.id for attempt in attempts], lock=True)}
    absent = [attempt for attempt in attempts if attempt.id not in rows]
    if absent:
        existing = {job.id for job in _select([attempt.id for attempt in absent], lock=False)}
        if missing := [attempt for attempt in absent if attempt.id not in existing]:
            queued = [_queued_row(attempt.job) for attempt in missing]
            insert_rows(_in_order(queued), ignore_conflicts=True)
            rows |= {job.id: job for job in _select([job.id for job in queued], lock=True)}
    return rows


def _in_order(rows: Sequence[Job]) -> list[Job]:
    """Return rows in the order in which they are inserted, each once.

    Two processes that insert the same rows in different orders would wait for each other.
    """
    return sorted({row.id: row for row in rows}.values(), key=lambda row: row.id)


def _select(ids: Sequence[UUID], *, lock: bool) -> list[Job]:
    prepare = prepare_id()
    condition, params = where_in(Job, "id", [prepare(id) for id in ids])
    return select_rows(Job, f"WHERE {condition} ORDER BY id{lock_sql() if lock else ''}", params)


def _queued_row(job: Job) -> Job:
    row = copy.copy(job)
    row.state, row.attempt, row.fence, row.worker, row.started_at = Job.State.QUEUED, 0, 0, None, None
    row.progress_current, row.progress_total, row.progress_message = None, None, ""
    return row


def _may_record(attempt: ObservedAttempt, row: Job) -> bool:
    """Return whether the row is still that of an attempt, or can be started by it.

    A job whose worker seemed to be lost was queued again, or has failed by a guess. A worker that was only suspended
    then goes on with it. A publisher may choose the id of a task, also that of another job.
    """
    is_guess = outcomes.is_guess(row)
    if attempt.is_begun:
        return row.fence == attempt.fence and (not row.done or is_guess)
    # After an outage the start of an attempt may be recorded when its retry runs already.
    is_older = (is_guess or row.state == Job.State.RUNNING) and row.attempt > attempt.number
    return not ((row.done and not is_guess) or is_older) and row.executor == Job.Executor.OBSERVED


def _is_corrected_by_start(row: Job, attempt: ObservedAttempt) -> bool:
    """Return whether a start corrects a guess: not that of a child process which was killed since."""
    kind = outcomes.error_type(row.error)
    return kind in outcomes.NOT_STARTED or (kind == "outcome-unknown" and attempt.number > row.attempt)


def _outcome_for(row: Job, attempt: ObservedAttempt, outcome: Outcome | Callable[[Job], Outcome]) -> Outcome:
    """Return the outcome, with the notification that the row demands: it may differ from what the message says."""
    job = attempt.job_or(row)
    if not isinstance(outcome, Outcome):
        outcome = outcome(job if attempt.is_begun else row)
    elif not attempt.is_begun and any(getattr(row, name) != getattr(job, name) for name in _SHOWN_FIELDS):
        if attempt.remake is not None:
            running = copy.copy(row)
            running.state, running.attempt = Job.State.RUNNING, attempt.number
            remade = attempt.remake(running)
            outcome = replace(
                outcome, notification=remade.notification, notify=remade.notify, error=remade.error
            )
        else:
            outcome = replace(outcome, notification=None)
    return outcome if outcome.job is job else replace(outcome, job=job)
