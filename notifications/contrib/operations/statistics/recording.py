"""Count the ends of jobs and attempts, in the transaction that records them.

So the sums of the statistics are exactly the jobs that ended, whichever process is
killed when. Each database connection adds to rows of its own for a minute, so no writer waits for another one;
``roll_up.py`` merges the rows afterwards.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from notifications.contrib.operations.models import BUCKET_COLUMNS, BUCKET_COUNT, JobStatistics
from notifications.db import connection
from notifications.models import Attempt, Job

if TYPE_CHECKING:
    from notifications.extension import RecordedTransaction
    from notifications.jobs import Outcome

#: The label of the app, by which it keeps the counts in a transaction.
LABEL = "notifications_operations"

#: Start, queue, task and outcome of a row.
Key = tuple[int, str, str, str]
#: What is added to the columns of a row.
Additions = dict[str, int]

#: Without types, because mypy does not know those of their members.
Outcomes: Any = JobStatistics.Outcome
Periods: Any = JobStatistics.Period
TABLE = JobStatistics._meta.db_table
KEY_COLUMNS = ("period", "shard", "start", "queue_name", "task_path", "outcome")
#: Columns that each row has besides the buckets that are not empty.
SUM_COLUMNS = ("count", "enqueued", "wait_microseconds", "run_microseconds")
#: Bits of a shard that hold a random number of the connection. Those above hold the minute, counted from 1970.
WRITER_BITS = 32
MINUTE_SECONDS = 60
#: Upper bounds in seconds, inclusive, of all buckets of the histograms but the last one, which has none: 0.001 to
#: 67108.864. Each is twice the one before, so that the figure of a percentile lies at most a factor of two beside the
#: true time, and histograms of any periods can be added.
BOUNDS_SECONDS = tuple(2**n / 1000 for n in range(BUCKET_COUNT - 1))
_MICROSECOND = timedelta(microseconds=1)


def new_additions() -> Additions:
    return dict.fromkeys(SUM_COLUMNS, 0)


class StatisticsBuffer:
    """The ends of jobs and attempts in one transaction, to be written as its last statements."""

    def __init__(self) -> None:
        self._rows: dict[Key, Additions] = defaultdict(new_additions)

    def add_ends(self, jobs: Iterable[Job], now: datetime, *, has_run: bool) -> None:
        """Count jobs that end with their ``state``. ``has_run`` says whether attempts were running."""
        rows, minute = self._rows, _minute_of(now)
        for job in jobs:
            queue, task, state = job.queue_name, job.task_path, job.state
            row = rows[minute, queue, task, state]
            row["count"] += 1
            if has_run and job.started_at is not None:
                _add_times(row, job, now)
            queued = _minute_of(job.queued_at or job.created_at)
            (row if queued == minute else rows[queued, queue, task, state])["enqueued"] += 1

    def add_attempt(self, job: Job, outcome: Outcome, now: datetime) -> None:
        """Count an attempt that did not succeed. The end of its job, if that ends too, is counted by ``add_ends``."""
        if outcome.attempt == Attempt.Outcome.LOST:
            self._count(job, Outcomes.LOST.value, now)
        elif outcome.attempt == Attempt.Outcome.TIMED_OUT:
            self._count(job, Outcomes.TIMED_OUT.value, now)
        if outcome.retry_delay is not None and outcome.attempt != Attempt.Outcome.LOST:
            row = self._count(job, Outcomes.RETRIED.value, now)
            if job.started_at is not None:
                _add_times(row, job, now)

    def write(self) -> None:
        """Add what is counted to the database, and begin anew.

        Inside a transaction that only commits afterwards: nothing may wait while it holds these rows.
        """
        if not self._rows:
            return
        shard = current_shard()
        for key, additions in sorted(self._rows.items()):
            start, queue, task, outcome = key
            add(Periods.MINUTE.value, shard, (start, queue, task, str(outcome)), additions)
        self._rows.clear()

    def _count(self, job: Job, outcome: str, now: datetime) -> Additions:
        row = self._rows[_minute_of(now), job.queue_name, job.task_path, outcome]
        row["count"] += 1
        return row


def count_attempts(outcomes: Sequence[Outcome], tx: RecordedTransaction) -> tuple[()]:
    """Count attempts, to be written by ``write_counts()``. See ``Extension.on_attempts()``."""
    assert tx.now is not None
    buffer = _buffer_of(tx)
    for outcome in outcomes:
        if outcome.attempt:
            buffer.add_attempt(outcome.job, outcome, tx.now)
    return ()


def count_ends(outcomes: Sequence[Outcome], tx: RecordedTransaction) -> tuple[()]:
    """Count ends of jobs in the same way. See ``Extension.on_ends()``."""
    assert tx.now is not None
    ended = [outcome.job for outcome in outcomes if outcome.job.state != Job.State.WAITING]
    _buffer_of(tx).add_ends(ended, tx.now, has_run=tx.has_run)
    return ()


def write_counts(tx: RecordedTransaction) -> None:
    """Write what the transaction has counted. See ``Extension.last()``."""
    if buffer := tx.kept.get(LABEL):
        buffer.write()


def _buffer_of(tx: RecordedTransaction) -> StatisticsBuffer:
    buffer: StatisticsBuffer | None = tx.kept.get(LABEL)
    if buffer is None:
        buffer = tx.kept[LABEL] = StatisticsBuffer()
    return buffer


def add(period: int, shard: int, key: Key, additions: Additions) -> None:
    """Add to a row, which is inserted if it does not exist."""
    columns = tuple(sorted(additions))  # in one order, so that few statements differ
    # By itself, although sending it with other statements would save a round trip: statements differ by their buckets,
    # and psycopg parses a statement anew that is long or that it has not seen lately.
    with connection().cursor() as cursor:
        cursor.execute(_upsert(columns), [period, shard, *key, *(additions[name] for name in columns)])


def current_shard() -> int:
    """Return the ``shard`` of the rows to which this connection adds in this minute."""
    db = connection()
    process, number = db.__dict__.get("_notifications_shard", (None, 0))
    if process != os.getpid():  # a fork has a copy of its parent's connections
        number = random.getrandbits(WRITER_BITS)
        db.__dict__["_notifications_shard"] = os.getpid(), number
    return first_shard(time.time()) + number


def first_shard(moment: float) -> int:
    """Return the least ``shard`` of the minute of a time, in seconds since 1970."""
    return int(moment) // MINUTE_SECONDS << WRITER_BITS


def _add_times(row: Additions, job: Job, now: datetime) -> None:
    _add_time(row, "run", now - job.started_at)
    # A retry waits from when it is due. When the attempt after a lost one was due is not stored.
    if job.run_after is not None:
        _add_time(row, "wait", job.started_at - max(job.queued_at, job.run_after))
    elif job.attempt == 1:
        _add_time(row, "wait", job.started_at - job.queued_at)


def _add_time(additions: Additions, histogram: str, duration: timedelta) -> None:
    value = max(duration // _MICROSECOND, 0)  # the clocks of two machines may differ
    additions[f"{histogram}_microseconds"] += value
    bucket = BUCKET_COLUMNS[histogram][bucket_of(value)]
    additions[bucket] = additions.get(bucket, 0) + 1


def bucket_of(time: int) -> int:
    """Return the number of the bucket that counts a time in microseconds."""
    milliseconds = -(-time // 1000)
    return min((milliseconds - 1).bit_length(), BUCKET_COUNT - 1) if milliseconds else 0


def _minute_of(moment: datetime) -> int:
    seconds = int(moment.timestamp())
    return seconds - seconds % MINUTE_SECONDS


@lru_cache(maxsize=1024)
def _upsert(columns: tuple[str, ...]) -> str:
    names = ", ".join((*KEY_COLUMNS, *columns))
    marks = ", ".join(["%s"] * (len(KEY_COLUMNS) + len(columns)))
    changes = ", ".join(f"{name} = coalesce({TABLE}.{name}, 0) + excluded.{name}" for name in columns)
    return (
        f"INSERT INTO {TABLE} ({names}) VALUES ({marks}) "
        f"ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET {changes}"
    )
