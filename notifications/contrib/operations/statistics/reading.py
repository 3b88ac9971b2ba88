"""Read the statistics of jobs: figures of queues and tasks over a time, and totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from notifications import times
from notifications.contrib.operations.models import BUCKET_COUNT, JobStatistics
from notifications.contrib.operations.statistics.recording import BOUNDS_SECONDS, TABLE
from notifications.contrib.operations.statistics.roll_up import COLUMNS, PERIOD_SECONDS, Period
from notifications.db import connection, dialect
from notifications.extension import hooks
from notifications.jobs import JobFilter

Outcome = JobStatistics.Outcome

#: The outcomes that end a job. The others count attempts.
ENDS = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED)
#: The longest window that is read from minutes, and from hours. Longer ones are read from days.
MAX_MINUTES_WINDOW, MAX_HOURS_WINDOW = timedelta(hours=3), timedelta(days=14)
#: For each period, a longer one that is made of it.
LONGER_PERIODS = {Period.MINUTE: Period.HOUR, Period.HOUR: Period.DAY}
ROLLED_UP = f"{TABLE} WHERE shard = 0"


@dataclass(slots=True)
class Histogram:
    """How many times lie in each bucket of ``BOUNDS_SECONDS``, the last one without a bound; and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKET_COUNT)
    total_seconds: float = 0.0

    @property
    def count(self) -> int:
        """The number of times."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean in seconds; None without times."""
        return self.total_seconds / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """Return the seconds within which a share (0.95: 95 %) of the times lie; None without times.

        Inside a bucket times are taken to be spread evenly. A share in the last bucket yields its lower bound.
        """
        if not self.count:
            return None
        rank, below = share * self.count, 0
        for number, count in enumerate(self.counts):
            if count and below + count >= rank:
                if number >= len(BOUNDS_SECONDS):
                    break
                lower = BOUNDS_SECONDS[number - 1] if number else 0.0
                return lower + (BOUNDS_SECONDS[number] - lower) * max(rank - below, 0.0) / count
            below += count
        return BOUNDS_SECONDS[-1]

    @property
    def p50(self) -> float | None:
        """The seconds within which half of the times lie."""
        return self.percentile(0.5)

    @property
    def p95(self) -> float | None:
        """The same for 95 %."""
        return self.percentile(0.95)

    @property
    def p99(self) -> float | None:
        """The same for 99 %."""
        return self.percentile(0.99)

    def add(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total_seconds += other.total_seconds


@dataclass(slots=True)
class Figures:
    """The figures of a queue, or of one task in it, within a time.

    ``queue``, ``task``
        "" where the figures are those of all.
    ``start``, ``seconds``
        The begin of the time, and how long it is: the current minute or hour counts as far as it has passed. Totals
        have None and 0.
    ``enqueued``
        Jobs that were queued in this time and have ended since. Jobs that are active now are not counted.
    ``succeeded``, ``failed``, ``cancelled``
        Jobs that ended in this time.
    ``retried``, ``timed_out``, ``lost``
        Attempts that were followed by a retry, that took too long, and whose worker was lost.
    ``wait``, ``run``
        Seconds from when a job was due to its start, and from there to its end, of the jobs that ended.
    """

    queue: str = ""
    task: str = ""
    start: datetime | None = None
    seconds: float = 0.0
    enqueued: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    timed_out: int = 0
    lost: int = 0
    wait: Histogram = field(default_factory=Histogram)
    run: Histogram = field(default_factory=Histogram)

    @property
    def ended(self) -> int:
        """The number of jobs that ended."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def failure_rate(self) -> float | None:
        """The share (0 to 1) of failures among the jobs that succeeded or failed; None without such jobs."""
        done = self.succeeded + self.failed
        return self.failed / done if done else None

    @property
    def failed_percent(self) -> float | None:
        """The same in percent."""
        rate = self.failure_rate
        return None if rate is None else 100 * rate

    @property
    def enqueued_per_minute(self) -> float:
        """Jobs that were queued, per minute."""
        return self.enqueued * 60 / self.seconds if self.seconds else 0.0

    @property
    def ended_per_minute(self) -> float:
        """Jobs that ended, per minute."""
        return self.ended * 60 / self.seconds if self.seconds else 0.0

    @property
    def has_jobs(self) -> bool:
        """Whether a job was queued or ended in this time."""
        return bool(self.enqueued or self.ended)

    def add(self, row: Sums) -> None:
        setattr(self, row.outcome, getattr(self, row.outcome) + row.count)
        if row.outcome in ENDS:
            self.enqueued += row.enqueued
            self.wait.add(row.wait)
            self.run.add(row.run)


@dataclass(slots=True)
class Sums:
    """What one outcome of a queue, or of a task in it, adds up to: since the beginning, or in one step of a time.

    ``outcome`` is one of ``JobStatistics.Outcome``; those that are not in ``ENDS`` count attempts.
    """

    queue: str
    task: str
    outcome: str
    step: int
    count: int
    enqueued: int
    wait: Histogram
    run: Histogram


def read_figures(
    window: timedelta,
    *,
    by_task: bool = False,
    queue: str | None = None,
    task: str | None = None,
    without_deliveries: bool = False,
    now: datetime | None = None,
) -> list[Figures]:
    """Return the figures of the last ``window`` of each queue, ordered by name; of each task in it with ``by_task``.

    ``queue``, ``task``
        Only of this queue or task.
    ``without_deliveries``
        Without the jobs that ``JobFilter(deliveries="hidden")`` leaves out.
    ``now``
        The end of the window; the current time by default.

    A window of up to 3 hours is read from minutes, one of up to 14 days from hours, a longer one from days (UTC). It
    begins with the period in which it would begin otherwise, so it may be longer than asked for by one period. Queues
    and tasks in which nothing has ended are left out. One query.
    """
    now = now or times.now()
    period = period_of(window)
    since = first_start(now - window, PERIOD_SECONDS[period])
    group = ("queue_name", "task_path") if by_task else ("queue_name",)
    figures: dict[tuple[str, str], Figures] = {}
    sums = read_sums(period, since, now, group, queue=queue, task=task, without_deliveries=without_deliveries)
    for row in sums:
        key = (row.queue, row.task)
        if key not in figures:
            figures[key] = Figures(
                queue=row.queue,
                task=row.task or task or "",
                start=moment_of(since),
                seconds=now.timestamp() - since,
            )
        figures[key].add(row)
    return [figures[key] for key in sorted(figures)]


def read_totals() -> list[Sums]:
    """Return what has ended since the beginning, by queue, task and outcome. No number ever falls. One query."""
    rows = read_sums(Period.ALL_TIME, 0, None, ("queue_name", "task_path"))
    return sorted(rows, key=lambda row: (row.queue, row.task, row.outcome))


def read_names(
    window: timedelta, *, now: datetime, limit: int, without_deliveries: bool = False
) -> list[tuple[str, str]]:
    """Return queue and task of the jobs that ended in the last ``window``, ordered by both, at most ``limit``.

    One query.
    """
    period = period_of(window)
    columns = f"SELECT queue_name, task_path FROM {TABLE}"
    since = f"start >= {first_start(now - window, PERIOD_SECONDS[period])}"
    if without_deliveries:
        since += f" AND {JobFilter.project_sql()}"
    sql = (
        f"{columns} WHERE period = {int(period)} AND shard = 0 AND {since} "
        f"UNION {columns}{by_index_of_new_rows()} WHERE shard > 0 AND {since} ORDER BY 1, 2 LIMIT {limit}"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql)
        return [(queue, task) for queue, task in cursor.fetchall()]


def read_sums(
    period: Any,
    since: int,
    until: datetime | None,
    group: Sequence[str],
    *,
    queue: str | None = None,
    task: str | None = None,
    step: int = 0,
    without_deliveries: bool = False,
) -> Iterator[Sums]:
    """Yield sums of the rows of a period and of those that are not rolled up yet, in one snapshot."""
    if until is None:
        within = f"start >= {since}"
        sources = [f"{ROLLED_UP} AND period = {int(period)} AND {within}"]
    else:
        last = int(until.timestamp())
        within = f"start BETWEEN {since} AND {last}"
        sources = rolled_up_rows(period, since, last, has_longer=not step)
    sources.append(f"{TABLE}{by_index_of_new_rows()} WHERE shard > 0 AND {within}")
    selected = {"queue_name": queue, "task_path": task}
    params = [value for value in selected.values() if value is not None]
    condition = "".join(f" AND {column} = %s" for column, value in selected.items() if value is not None)
    if without_deliveries and task not in hooks.own_tasks:
        condition += f" AND {JobFilter.project_sql()}"
    keys = [*group, "outcome", *([f"(start - {since}) / {step}"] if step else [])]
    sums = ", ".join(f"sum({column})" for column in COLUMNS)
    columns = ", ".join(("start", "queue_name", "task_path", "outcome", *COLUMNS))
    rows = " UNION ALL ".join(f"SELECT {columns} FROM {source}{condition}" for source in sources)
    query = f"SELECT {', '.join(keys)}, {sums} FROM ({rows}) AS rows_of_period GROUP BY {', '.join(keys)}"
    with connection().cursor() as cursor:
        cursor.execute(query, params * len(sources))
        found = cursor.fetchall()
    for row in found:
        yield _row(dict(zip([*group, "outcome"], row, strict=False)), bool(step), row[len(group) + 1 :])


def rolled_up_rows(period: Any, since: int, last: int, *, has_longer: bool = True) -> list[str]:
    """Return which rows add up to the rows of a period that start from ``since`` to ``last``, each as text after FROM.

    With ``has_longer`` those are the rows of whole longer periods, and of the period itself at both ends of the time:
    a week has a fifth of the rows then.
    """
    parts = [(period, since, last)]
    if has_longer and (longer := LONGER_PERIODS.get(period)) is not None:
        seconds = PERIOD_SECONDS[longer]
        first, end = -(-since // seconds) * seconds, last // seconds * seconds
        if first < end:
            parts = [(period, since, first - 1), (longer, first, end - 1), (period, end, last)]
    return [
        f"{ROLLED_UP} AND period = {int(part)} AND start BETWEEN {start} AND {end}"
        for part, start, end in parts
    ]


def by_index_of_new_rows() -> str:
    """Return what follows the table's name where the rows that are not rolled up yet are read.

    SQLite with statistics (ANALYZE) expects few shards in the index of the key, and reads through that one: 11 ms for
    each query of a million jobs, also where there is no such row.
    """
    return dialect().by_index("notifications_statistics_new")


def _row(names: dict[str, Any], has_step: bool, values: Sequence[Any]) -> Sums:
    # By position, as in COLUMNS: the page of a week has 600 rows of 60 columns.
    step, count, enqueued, wait, run, *buckets = [
        int(value or 0) for value in (values if has_step else (0, *values))
    ]
    return Sums(
        queue=names.get("queue_name", ""),
        task=names.get("task_path", ""),
        outcome=names["outcome"],
        step=step,
        count=count,
        enqueued=enqueued,
        wait=Histogram(buckets[:BUCKET_COUNT], wait / 1_000_000),
        run=Histogram(buckets[BUCKET_COUNT:], run / 1_000_000),
    )


def period_of(window: timedelta) -> Any:
    if window <= MAX_MINUTES_WINDOW:
        return Period.MINUTE
    return Period.HOUR if window <= MAX_HOURS_WINDOW else Period.DAY


def first_start(moment: datetime, seconds: int) -> int:
    moment_seconds = int(moment.timestamp())
    return moment_seconds - moment_seconds % seconds


def moment_of(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
