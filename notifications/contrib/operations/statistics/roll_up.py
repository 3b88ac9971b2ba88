"""Roll up the rows of single writers into rows of minutes, hours, days and all time, and delete old ones.

A transaction deletes rows of writers and adds them to one row of each period. So at any moment each end is counted once
in each period: in the row of the period, or in that of its writer. ``upkeep`` has one process roll up; several at once
would do no harm.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from notifications import times
from notifications.contrib.operations.models import BUCKET_COLUMNS, HISTOGRAMS, JobStatistics
from notifications.contrib.operations.statistics.recording import (
    MINUTE_SECONDS,
    SUM_COLUMNS,
    Additions,
    Key,
    add,
    first_shard,
    new_additions,
)
from notifications.db import database, dialect, lock_query, read_ids, retrying_atomic

Period: Any = JobStatistics.Period

#: Seconds between two roll-ups.
INTERVAL_SECONDS = 60.0
#: Seconds of each period. All time is one period, which starts at 0.
PERIOD_SECONDS = {Period.MINUTE: MINUTE_SECONDS, Period.HOUR: 3600, Period.DAY: 86_400}
#: How long rows are kept. Those of all time are never deleted, so totals only grow.
KEPT = {Period.MINUTE: timedelta(days=30), Period.HOUR: timedelta(days=90), Period.DAY: timedelta(days=730)}
#: Seconds after the start of a minute from which the rows of its writers are rolled up: no connection adds to them any
#: more.
ROLL_UP_AFTER_SECONDS = 2 * MINUTE_SECONDS
#: Rows that one transaction rolls up or deletes at most. Each changes up to four others. On SQLite a chunk holds
#: the lock for a few milliseconds.
MAX_ROLLED_UP_ROWS, MAX_ROLLED_UP_ROWS_OF_ONE_WRITER = 200, 25

COLUMNS = (*SUM_COLUMNS, *(column for name in HISTOGRAMS for column in BUCKET_COLUMNS[name]))


def max_rows() -> int:
    """Return how many rows one transaction rolls up at most."""
    return dialect().rows_per_transaction(MAX_ROLLED_UP_ROWS, one_writer=MAX_ROLLED_UP_ROWS_OF_ONE_WRITER)


def find_rows() -> Iterator[int]:
    """Yield the ids of rows of writers whose minute is over."""
    # What one minute's shards begin with is less than what those of the next one do.
    end = first_shard(time.time() - ROLL_UP_AFTER_SECONDS + MINUTE_SECONDS)
    # Of a minute that is far ahead: they were written while a clock was wrong.
    impossible = first_shard(times.latest_possible(times.now(), timedelta(hours=1)).timestamp())
    yield from read_ids(JobStatistics, "shard > 0 AND (shard < %s OR shard > %s)", [end, impossible], "shard")


def find_old_rows() -> Iterator[int]:
    """Yield the ids of rows that are older than ``KEPT``."""
    now = times.now()
    for period, kept in KEPT.items():
        before = int((now - kept).timestamp())
        # In the order of the index of the key.
        where = f"period = {period.value} AND shard = 0 AND start < %s"
        yield from read_ids(JobStatistics, where, [before], "start")


def roll_up(ids: Sequence[int]) -> None:
    """Roll up those of these rows that are of writers, and delete the others, which are old."""

    def write() -> None:
        rows = JobStatistics.objects.using(database()).filter(id__in=ids).order_by("shard", "id")
        columns = ("id", "shard", "start", "queue_name", "task_path", "outcome", *COLUMNS)
        chunk = list(lock_query(rows).values_list(*columns))
        sums: dict[tuple[int, Key], Additions] = defaultdict(new_additions)
        for _, shard, start, queue, task, outcome, *values in chunk:
            for period in Period if shard else ():
                key = (start_of(period, start), queue, task, outcome)
                _merge(sums[period.value, key], values)
        JobStatistics.objects.using(database()).filter(id__in=[row[0] for row in chunk]).delete()
        for period_value, key in sorted(sums):
            add(period_value, 0, key, sums[period_value, key])

    retrying_atomic(write)


def start_of(period: int, moment: int) -> int:
    """Return the start of the period of a time; both are seconds since 1970."""
    return moment - moment % PERIOD_SECONDS[period] if period in PERIOD_SECONDS else 0


def _merge(additions: Additions, values: list[int | None]) -> None:
    for column, value in zip(COLUMNS, values, strict=True):
        if value:
            additions[column] = additions.get(column, 0) + value
