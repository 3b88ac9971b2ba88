"""Roll up the rows of single writers into rows of minutes, hours, days and all time, and delete old ones.

A transaction deletes rows of writers and adds them to one row of each period. So at any moment each end is counted once
in each period: in the row of the period, or in that of its writer. ``upkeep`` has one process roll up; several at once
would do no harm.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import timedelta
from typing import Any

from django.db.models import Q

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
from notifications.db import database, dialect, lock_query, retrying_atomic

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
#: Rows that one transaction rolls up and deletes at most. Each changes up to four others. On SQLite a chunk holds
#: the lock for a few milliseconds.
MAX_ROLLED_UP_ROWS, MAX_ROLLED_UP_ROWS_OF_ONE_WRITER = 200, 25
MAX_DELETED_ROWS = 200

COLUMNS = (*SUM_COLUMNS, *(column for name in HISTOGRAMS for column in BUCKET_COLUMNS[name]))


def roll_up_chunk() -> int:
    """Roll up some rows of writers whose minute is over, and return how many; 0 when none is left."""
    # What one minute's shards begin with is less than what those of the next one do.
    end = first_shard(time.time() - ROLL_UP_AFTER_SECONDS + MINUTE_SECONDS)
    limit = dialect().rows_per_transaction(MAX_ROLLED_UP_ROWS, one_writer=MAX_ROLLED_UP_ROWS_OF_ONE_WRITER)
    # Of a minute that is far ahead: they were written while a clock was wrong.
    impossible = first_shard(times.latest_possible(times.now(), timedelta(hours=1)).timestamp())
    rows = JobStatistics.objects.using(database()).filter(shard__gt=0).order_by("shard", "id")
    rows = rows.filter(Q(shard__lt=end) | Q(shard__gt=impossible))
    if not rows.exists():
        return 0

    def write() -> int:
        found = lock_query(rows).values_list("id", "start", "queue_name", "task_path", "outcome", *COLUMNS)
        chunk = list(found[:limit])
        sums: dict[tuple[int, Key], Additions] = defaultdict(new_additions)
        for _, start, queue, task, outcome, *values in chunk:
            for period in Period:
                key = (start_of(period, start), queue, task, outcome)
                _merge(sums[period.value, key], values)
        JobStatistics.objects.using(database()).filter(id__in=[row[0] for row in chunk]).delete()
        for period_value, key in sorted(sums):
            add(period_value, 0, key, sums[period_value, key])
        return len(chunk)

    return retrying_atomic(write)


def delete_chunk() -> int:
    """Delete some rows that are older than ``KEPT``, and return how many; 0 when none is left."""
    now = times.now()
    for period, kept in KEPT.items():
        before = int((now - kept).timestamp())
        old = JobStatistics.objects.using(database()).filter(period=period, shard=0, start__lt=before)
        # In the order of the index of the key.
        ids = list(old.order_by("start").values_list("id", flat=True)[:MAX_DELETED_ROWS])
        if ids:
            rows = JobStatistics.objects.using(database()).filter(id__in=ids)
            retrying_atomic(rows.delete)
            return len(ids)
    return 0


def start_of(period: int, moment: int) -> int:
    """Return the start of the period of a time; both are seconds since 1970."""
    return moment - moment % PERIOD_SECONDS[period] if period in PERIOD_SECONDS else 0


def _merge(additions: Additions, values: list[int | None]) -> None:
    for column, value in zip(COLUMNS, values, strict=True):
        if value:
            additions[column] = additions.get(column, 0) + value
