"""The timeline of a job: its attempts, their steps and waits, and what extensions know, on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext

from notifications import times
from notifications.db.transactions import database
from notifications.extension import Event
from notifications.extension.installed import read_events
from notifications.jobs.step_list import StepList, StoredStep, describe_duration
from notifications.models import Attempt, Job
from notifications.states import LEVELS, SEEN_IN_TIMELINE, UNFAILED_AT_FIRST, describe_state, is_cancelling

#: The newest attempts that did not succeed of a timeline.
MAX_ATTEMPTS_SHOWN = 20
#: Seconds in the queue below which they are not shown.
MIN_QUEUE_SECONDS = 1
#: Rows from which on failures can be shown alone.
MIN_FILTERED_ROWS = 20
#: Events after all else that are shown. More are opened by a press.
MAX_LAST_EVENTS = 5
#: Percent of the width that the shortest bar has.
MIN_WIDTH = 0.5
#: Rows that begin at one time stand in this order.
_ORDER = ("queue", "attempt", "span", "step", "event")


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineRow:
    """One thing that happened to a job, or happens.

    ``kind``
        ``"queue"``, ``"attempt"``, ``"step"`` for steps and waits, ``"event"``, or ``"span"`` for one that lasted.
    ``start``, ``end``
        ``end`` is None while it lasts. An event has none, and may have no ``start``.
    ``took``
        How long it took, in words, "" if that is not known.
    ``note``
        What came of it, "" if the symbol says so.
    ``level``
        Of an attempt that of its outcome, which colors its bar.
    ``left``, ``width``
        Where its bar begins, and its width, in percent of the whole time; ``width`` is "" without a bar.
    ``step``
        The step or wait that it is.
    ``is_cause``
        It is the call at which the job has failed.
    """

    kind: str
    name: str
    icon: str
    start: datetime | None
    end: datetime | None = None
    took: str = ""
    note: str = ""
    level: str = ""
    is_open: bool = False
    left: str = ""
    width: str = ""
    step: StoredStep | None = None
    is_cause: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The rows in the order in which they began, those without a time last.

    ``more``
        The last events, if they are many.
    ``cause``
        The name of the call at which the job has failed, "" if that is not known.
    ``took``
        The whole time, "" while something goes on.
    ``note``
        Which steps are shown, "" if all are.
    ``is_telling``
        There is more than one attempt without steps, of which the state of the job says all.
    ``events``
        What extensions know to have happened to the job, which is among the rows.
    ``seconds``
        The whole time, until now if something goes on.
    """

    rows: list[TimelineRow]
    more: list[TimelineRow]
    note: str
    cause: str
    took: str
    is_telling: bool
    events: list[Event]
    seconds: float

    @property
    def can_be_filtered(self) -> bool:
        """Whether there are failures among so many rows that they are looked for."""
        return len(self.rows) > MIN_FILTERED_ROWS and any(
            row.level in ("error", "warning") for row in self.rows
        )


def read_failed_attempts(job: Job) -> list[Attempt]:
    """Return the newest attempts of a job that did not succeed, in their order, without tracebacks."""
    # One that waits for a retry has failed, and one that waits for something else has its number taken back.
    if not job.attempt or (job.attempt == 1 and job.state in UNFAILED_AT_FIRST):
        return []
    rows = Attempt.objects.using(database()).filter(job=job.pk).defer("traceback")
    return list(rows.order_by("-number", "-id")[:MAX_ATTEMPTS_SHOWN])[::-1]


def read_job_timeline(
    job: Job,
    steps: StepList,
    attempts: Sequence[Attempt],
    reader: Any,
    *,
    viewer: Any = None,
    with_events: bool = True,
) -> Timeline:
    """Return the timeline of a job that has these steps, and these attempts that did not succeed, in their order.

    ``reader``
        The user (key) who owns it; None for staff, whose key ``viewer`` is.
    ``with_events``
        Reads what extensions know to have happened to the job, besides.
    """
    rows = _rows_of_attempts(job, steps, attempts) if job.started_at else []
    events = read_events(job, reader, viewer=viewer) if with_events else []
    ends = {job.attempt: job.finished_at} | {attempt.number: attempt.ended_at for attempt in attempts}
    rows += [_row_of_step(step, ends.get(step.attempt)) for step in steps.first]
    rows += map(_row_of_event, events)
    kinds = [row.kind for row in rows]
    # For its owner only the output lasts, which the page has.
    is_telling = bool({"step", "event"} & {*kinds}) or kinds.count("attempt") > 1
    is_telling |= reader is None and "span" in kinds
    note = steps.heading if steps.count > len(steps.first) else ""
    rows, seconds = _place_bars(_in_order(rows))
    cause = _find_cause(job, rows, attempts)
    if cause is not None:
        rows[cause] = replace(rows[cause], is_cause=True)
    last = next((place for place in range(len(rows), 0, -1) if rows[place - 1].kind != "event"), 0)
    shown = len(rows) if len(rows) - last <= MAX_LAST_EVENTS else last
    return Timeline(
        rows=rows[:shown],
        more=rows[shown:],
        note=note,
        cause="" if cause is None else rows[cause].name,
        took="" if any(row.is_open for row in rows) else describe_duration(timedelta(seconds=seconds)),
        is_telling=is_telling,
        events=events,
        seconds=seconds,
    )


def _find_cause(job: Job, rows: Sequence[TimelineRow], attempts: Sequence[Attempt]) -> int | None:
    """Return the place of the call at which the last attempt has failed, None if that is not known.

    An error was caught if another step began or returned afterwards. Of calls side by side the first error counts, as
    it cancels the others. A call that goes on when an error ends the attempt is not its cause.
    """
    if job.state != Job.State.FAILED:
        return None
    steps = {
        place: row.step for place, row in enumerate(rows) if row.step and row.step.attempt == job.attempt
    }
    ends = {place: step.started_at + (step.took or timedelta()) for place, step in steps.items()}
    seen = [ends[place] if step.state == "returned" else step.started_at for place, step in steps.items()]
    failed = [place for place, step in steps.items() if step.state == "failed" and ends[place] >= max(seen)]
    if failed:
        return min(failed, key=ends.__getitem__)
    is_raised = any(
        attempt.number == job.attempt and attempt.outcome == Attempt.Outcome.FAILED for attempt in attempts
    )
    lost = [place for place, step in steps.items() if step.state == "lost" and not is_raised]
    return max(lost, default=None)


def _rows_of_attempts(job: Job, steps: StepList, attempts: Sequence[Attempt]) -> list[TimelineRow]:
    begins: dict[int, datetime] = {}
    for step in steps.first:
        begins[step.attempt] = min(step.started_at, begins.get(step.attempt, step.started_at))
    # An attempt that waits is executed several times, and only the last start is stored.
    with_waits = {step.attempt for step in steps.first if step.is_wait}
    rows = [
        _row_of_attempt(
            attempt.number,
            attempt.started_at or attempt.ended_at,
            attempt.ended_at,
            note=str(attempt.get_outcome_display()),
            level="warning" if attempt.outcome == Attempt.Outcome.CANCELLED else "error",
        )
        for attempt in attempts
    ]
    # Waiting for something takes back the number of the attempt until it is executed again.
    number = max([job.attempt, *begins])
    if number and not any(attempt.number == number for attempt in attempts):
        level = LEVELS.get(job.state, "info")
        is_seen = job.state in SEEN_IN_TIMELINE and not is_cancelling(job)
        note = "" if is_seen else describe_state(job)
        rows.append(_row_of_attempt(number, job.started_at, job.finished_at, note=note, level=level))
    shown = []
    for of_attempt, row in zip([*(attempt.number for attempt in attempts), number], rows, strict=False):
        start = row.start and min(row.start, begins.get(of_attempt, row.start))
        took = "" if of_attempt in with_waits else row.took
        shown.append(replace(row, start=start, took=took))
    first = attempts[0].number if attempts else number
    if first != 1 or first in with_waits or not shown or shown[0].start is None:
        return shown  # when the first attempt began is not known
    waited = shown[0].start - job.created_at
    if waited.total_seconds() < MIN_QUEUE_SECONDS:
        return shown
    queue = TimelineRow(
        kind="queue",
        name=gettext("Queue"),
        icon="clock",
        start=job.created_at,
        end=shown[0].start,
        took=describe_duration(waited),
    )
    return [queue, *shown]


def _row_of_attempt(
    number: int, start: datetime | None, end: datetime | None, *, note: str, level: str
) -> TimelineRow:
    return TimelineRow(
        kind="attempt",
        name=gettext("Attempt {number}").format(number=number),
        icon=level if end else "clock",
        start=start,
        end=end,
        took=describe_duration(end - start) if start and end else "",
        note=note,
        level=level,
        is_open=end is None,
    )


def _row_of_step(step: StoredStep, attempt_end: datetime | None) -> TimelineRow:
    end = attempt_end if step.state == "lost" else None
    return TimelineRow(
        kind="step",
        name=step.name,
        icon=step.icon,
        start=step.started_at,
        end=end if step.took is None else step.started_at + step.took,
        took=step.took_label,
        note=step.end,
        level={"failed": "error", "lost": "warning"}.get(step.state, ""),
        is_open=step.is_open,
        step=step,
    )


def _row_of_event(event: Event) -> TimelineRow:
    name, start, end = (
        event.text,
        event.at and times.as_utc(event.at),
        event.until and times.as_utc(event.until),
    )
    if start is None or end is None:
        return TimelineRow(kind="event", name=name, icon="info", start=start)
    took = describe_duration(end - start)
    return TimelineRow(kind="span", name=name, icon="info", start=start, end=end, took=took)


def _in_order(rows: Iterable[TimelineRow]) -> list[TimelineRow]:
    def key(row: TimelineRow) -> tuple[bool, Any, int]:
        return row.start is None, row.start and times.as_utc(row.start), _ORDER.index(row.kind)

    return sorted(rows, key=key)


def _place_bars(rows: list[TimelineRow]) -> tuple[list[TimelineRow], float]:
    """Return the rows with their bars on the scale from the first start to the last end, or now while one lasts.

    And the seconds of the scale.
    """
    now = times.now()
    spans = [_span(row, now) for row in rows]
    begin = min((span[0] for span in spans if span), default=now)
    end = max((span[1] for span in spans if span), default=now)
    whole = max((end - begin).total_seconds(), 0.001)

    def place(row: TimelineRow, start: datetime, end: datetime) -> TimelineRow:
        width = min(max(100 * (end - start).total_seconds() / whole, MIN_WIDTH), 100)
        left = min(100 * (start - begin).total_seconds() / whole, 100 - width)
        return replace(row, left=f"{left:.2f}%", width=f"{width:.2f}%")

    return [place(row, *span) if span else row for row, span in zip(rows, spans, strict=True)], whole


def _span(row: TimelineRow, now: datetime) -> tuple[datetime, datetime] | None:
    end = now if row.is_open else row.end
    return (times.as_utc(row.start), times.as_utc(end)) if row.start and end else None
