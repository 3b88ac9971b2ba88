"""Fill a database with jobs and notifications, to measure pages and queries on large tables.

``python -m bench.seed --jobs 1000000 --notifications 1000000 [--users 1000] [--heavy-share 400]
[--database postgres]``

Without ``--database`` it is the database of the site's settings (``DATABASE_URL``). ``--database postgres`` starts a
PostgreSQL server of its own, prints its address, and stops it at Ctrl-C. The rows are those of 30 days: most jobs have
succeeded, 4 % have failed with one of eight exceptions, 1 % were cancelled, and the newest wait or run. Rows are
inserted with bulk SQL, ``ROWS_PER_TRANSACTION`` at a time. The statistics of the jobs that ended are there too, for
minutes, hours, days and all time: with a million jobs about 20 rows for each minute of the 30 days. A database that has
jobs already is refused.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

ROWS_PER_TRANSACTION = 50_000
DAYS = 30
DAY_MS = 24 * 3600 * 1000
#: Longer than any seeded job waits and runs together.
MAX_AGE_MS = 200_000
#: Periods of the statistics as they are stored, and their seconds.
MINUTE, HOUR, DAY, ALL_TIME = 1, 2, 3, 4
STATISTICS = "notifications_operations_jobstatistics"
LONGER_PERIODS = {HOUR: 3600, DAY: 24 * 3600, ALL_TIME: 0}
#: Of the histograms in the statistics, the buckets in which seeded times lie: up to 131 s.
BUCKETS = range(18)

#: Cumulative share in 1,000 of each task, and its path.
TASKS = (
    (500, "shop.tasks.send_receipt"),
    (700, "shop.tasks.resize_image"),
    (850, "shop.tasks.sync_stock"),
    (930, "reports.tasks.check_urls"),
    (970, "reports.tasks.render_pdf"),
    (990, "billing.tasks.charge_card"),
    (999, "billing.tasks.close_month"),
    (1000, "shop.tasks.rebuild_search"),
)
QUEUES = ((700, "default"), (900, "mail"), (998, "reports"), (1000, "nightly"))
EXCEPTIONS = (
    (400, "builtins.TimeoutError"),
    (600, "notifications.outbound.errors.CallFailed"),
    (750, "builtins.ValueError"),
    (850, "builtins.KeyError"),
    (920, "django.db.utils.OperationalError"),
    (970, "shop.errors.CardDeclined"),
    (995, "builtins.ZeroDivisionError"),
    (1000, "builtins.RecursionError"),
)
ERROR = '{"type": "task-failed", "title": "Failed", "detail": "The job stopped because of an error."}'

#: A different number from 0 to 999 for each column of the row ``i``, the same at each run.
HASH = "((i + {0} * 7919) * ((i + {0} * 104729) % 99991) % 99989 % 1000)"

EMPTY_JOB_TEXTS = (
    *("progress_message", "url", "language", "trace"),
    *("idempotency_key", "idempotency_hash", "concurrency_key"),
)


class Dialect:
    """The expressions that SQLite and PostgreSQL write differently."""

    def __init__(self, vendor: str) -> None:
        self.is_sqlite = vendor == "sqlite"

    def numbers(self, first: int, last: int) -> str:
        if self.is_sqlite:
            return f"WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
        return f"WITH n (i) AS (SELECT generate_series({first}::bigint, {last})) "

    def uuid7(self, milliseconds: str, salt: int) -> str:
        """Return a UUID of version 7 that is the same at each run, so that tables can name one another's rows."""
        if self.is_sqlite:
            return f"printf('%012x7%03x8{salt}%014x', {milliseconds}, i % 4096, i)"
        parts = f"lpad(to_hex({milliseconds}), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0')"
        return f"({parts} || '8{salt}' || lpad(to_hex(i), 14, '0'))::uuid"

    def time(self, milliseconds: str) -> str:
        if self.is_sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%f', ({milliseconds}) / 1000.0, 'unixepoch') || '000'"
        return f"to_timestamp(({milliseconds}) / 1000.0)"

    def null(self, kind: str) -> str:
        return "NULL" if self.is_sqlite else f"NULL::{kind}"


def choose(shares: tuple[tuple[int, str], ...], salt: int) -> str:
    """Return an expression for one of these values, by their shares."""
    number = HASH.format(salt)
    cases = " ".join(f"WHEN {number} < {share} THEN '{value}'" for share, value in shares)
    return f"CASE {cases} END"


class Seeding:
    """Inserts rows over a connection of Django. ``users`` are the keys of existing users, which must be integers."""

    def __init__(
        self,
        connection: Any,
        *,
        users: list[int],
        heavy_share: int = 0,
        now: float | None = None,
        report: Any = None,
    ):
        self.connection = connection
        self.dialect = Dialect(connection.vendor)
        self.users = users
        self.heavy_share = heavy_share
        self.end_ms = int((now or time.time()) * 1000)
        self.start_ms = self.end_ms - DAYS * 24 * 3600 * 1000
        self.report = report or (lambda text: None)

    def insert(self, *, jobs: int, notifications: int) -> None:
        """Insert so many jobs, with attempts, and notifications, with streams. Then update the statistics."""
        self._insert_all("job", jobs, self._job(jobs))
        self._insert_all("attempt", jobs, *self._attempts(jobs))
        self._insert_statistics(jobs)
        self._insert_all("notification", notifications, self._notification(jobs, notifications))
        self._execute(
            "INSERT INTO notifications_stream (user_id, head, seen, floor, unread, guard) "
            "SELECT user_id, max(seq), max(seq), 0, sum(CASE WHEN read_at IS NULL THEN 1 ELSE 0 END), 0 "
            "FROM notifications_notification GROUP BY user_id"
        )
        self._execute("ANALYZE")

    def _insert_all(self, table: str, count: int, columns: dict[str, str], where: str = "") -> None:
        names, values = ", ".join(columns), ", ".join(columns.values())
        for first in range(1, count + 1, ROWS_PER_TRANSACTION):
            last = min(first + ROWS_PER_TRANSACTION - 1, count)
            numbers = self.dialect.numbers(first, last)
            self._execute(
                f"INSERT INTO notifications_{table} ({names}) {numbers} SELECT {values} FROM n {where}"
            )
            self.report(f"{table}: {last:,} of {count:,}")

    def _insert_statistics(self, count: int) -> None:
        """Insert the statistics of the jobs that ended. They count as enqueued in the minute in which they ended."""
        created, (wait, run) = self._created_ms(count), self._times_ms()
        step = (self.end_ms - self.start_ms) // max(count, 1)
        keys = f"{choose(QUEUES, 5)} AS queue, {choose(TASKS, 4)} AS task, {self._state(count)} AS state"
        sums = {name: f"sum({name})" for name in ("wait", "run")}
        buckets = {
            f"{name}_{number}": f"nullif(sum(CASE WHEN {_bucket(name, number)} THEN 1 ELSE 0 END), 0)"
            for name in ("wait", "run")
            for number in BUCKETS
        }
        columns = "period, shard, start, queue_name, task_path, outcome, count, enqueued, wait_microseconds, "
        columns += ", ".join(("run_microseconds", *buckets))
        for day in range(DAYS + 1):
            start = self.start_ms // DAY_MS * DAY_MS + day * DAY_MS
            first = max((start - MAX_AGE_MS - self.start_ms) // step, 1)
            last = min((start + DAY_MS - self.start_ms) // step + 1, count)
            if first > last:
                continue
            self._execute(
                f"INSERT INTO {STATISTICS} ({columns}) {self.dialect.numbers(first, last)} "
                f"SELECT {MINUTE}, 0, ended / 60000 * 60, queue, task, state, count(*), count(*), "
                f"1000 * {sums['wait']}, 1000 * {sums['run']}, {', '.join(buckets.values())} FROM ("
                f"SELECT {created} + {wait} + {run} AS ended, {wait} AS wait, {run} AS run, {keys} FROM n"
                f") AS ends WHERE state NOT IN ('queued', 'running') AND ended >= {start} AND ended < {start + DAY_MS} "
                "GROUP BY 3, queue, task, state"
            )
            self.report(f"statistics: day {day + 1} of {DAYS + 1}")
        values = ", ".join(f"sum({name})" for name in columns.split(", ")[6:])
        for period, seconds in LONGER_PERIODS.items():
            begin = f"start / {seconds} * {seconds}" if seconds else "0"
            self._execute(
                f"INSERT INTO {STATISTICS} ({columns}) SELECT {period}, 0, {begin}, queue_name, "
                f"task_path, outcome, {values} FROM {STATISTICS} WHERE period = {MINUTE} "
                "GROUP BY 3, queue_name, task_path, outcome"
            )

    def _execute(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def _created_ms(self, count: int) -> str:
        step = (self.end_ms - self.start_ms) // max(count, 1)
        return f"({self.start_ms} + i * {step})"

    def _user(self) -> str:
        """Return an expression for the key of a user, of whom some have many more rows than others."""
        few = max(len(self.users) // 20, 1)
        first = min(self.users)
        if self.users != list(range(first, first + len(self.users))):
            raise SystemExit("The keys of the users have gaps. Seed an empty database.")
        number = HASH.format(3)
        return (
            f"CASE WHEN {HASH.format(17)} < {self.heavy_share} THEN {first} "
            f"WHEN {number} < 300 THEN {first} + i % {few} ELSE {first} + i % {len(self.users)} END"
        )

    def _times_ms(self) -> tuple[str, str]:
        """Return expressions for the milliseconds that a job waited and ran."""
        return f"({HASH.format(11)} * 20)", f"({HASH.format(12)} * {HASH.format(13)} / 10)"

    def _state(self, count: int) -> str:
        """Return an expression for the state: the newest jobs wait, a tenth of those run, and a tenth are delayed."""
        number, active = HASH.format(1), _active(count)
        return (
            f"CASE WHEN i > {count - active} THEN CASE WHEN i % 10 = 0 THEN 'running' ELSE 'queued' END "
            f"WHEN {number} < 40 THEN 'failed' WHEN {number} < 50 THEN 'cancelled' ELSE 'succeeded' END"
        )

    def _job(self, count: int) -> dict[str, str]:
        dialect, created, state = self.dialect, self._created_ms(count), self._state(count)
        active = f"i > {count - _active(count)}"
        wait, run = self._times_ms()
        started, finished = f"({created} + {wait})", f"({created} + {wait} + {run})"
        later = dialect.time(f"{self.end_ms} + 3600000")
        return {
            "id": dialect.uuid7(created, 1),
            "user_id": f"CASE WHEN {HASH.format(2)} < 50 THEN {dialect.null('bigint')} ELSE {self._user()} END",
            "seq": f"CASE WHEN {active} THEN 0 ELSE i END",
            "version": "3",
            "task_path": choose(TASKS, 4),
            "args": "'[' || i || ', \"customer@example.com\"]'",
            "kwargs": '\'{"token": "not-a-real-token", "size": 1024}\'',
            "backend": "'default'",
            "queue_name": choose(QUEUES, 5),
            "executor": f"CASE WHEN {HASH.format(6)} < 600 THEN 'async' ELSE 'sync' END",
            "priority": "0",
            "run_after": f"CASE WHEN {active} AND i % 10 = 1 THEN {later} END",
            "state": state,
            "attempt": f"CASE WHEN {state} = 'queued' THEN 0 ELSE 1 END",
            "max_attempts": "3",
            "worker": f"CASE WHEN {state} = 'running' THEN {dialect.uuid7(str(self.start_ms), 2)} END",
            "fence": "1",
            "result": f"CASE WHEN {state} = 'succeeded' THEN '{{\"done\": ' || i || '}}' END",
            "error": f"CASE WHEN {state} IN ('failed', 'cancelled') THEN '{ERROR}' END",
            "title": "'Order ' || i",
            "cancelled_by_other": "false",
            **dict.fromkeys(EMPTY_JOB_TEXTS, "''"),
            **dict.fromkeys(("created_at", "queued_at"), dialect.time(created)),
            "started_at": f"CASE WHEN {state} <> 'queued' THEN {dialect.time(started)} END",
            "finished_at": f"CASE WHEN NOT {active} THEN {dialect.time(finished)} END",
        }

    def _attempts(self, count: int) -> tuple[dict[str, str], str]:
        created = self._created_ms(count)
        exception = choose(EXCEPTIONS, 14)
        columns = {
            "job_id": self.dialect.uuid7(created, 1),
            "number": "1",
            "worker": self.dialect.uuid7(str(self.start_ms), 2),
            "started_at": self.dialect.time(created),
            "ended_at": self.dialect.time(f"{created} + 1000"),
            "outcome": "'failed'",
            "exception_class_path": exception,
            "traceback": f"{_traceback(self.dialect)} || {exception}",
        }
        return columns, f"WHERE {self._state(count)} = 'failed'"

    def _notification(self, jobs: int, count: int) -> dict[str, str]:
        dialect, created = self.dialect, self._created_ms(count)
        # A newer notification has more often not been read yet.
        read = f"{HASH.format(21)} < 900 AND i < {count} * 0.98"
        return {
            "id": dialect.uuid7(created, 3),
            "user_id": self._user(),
            "seq": "i",
            "raised": "i",
            "counted": f"NOT ({read})",
            "level": f"CASE WHEN {HASH.format(1)} < 40 THEN 'error' ELSE 'success' END",
            "category": "'job'",
            "title": "'Order ' || i",
            "body": "'Succeeded.'",
            "url": "''",
            "job": dialect.uuid7(created, 1) if jobs == count else dialect.null("uuid"),
            "data": "'{}'",
            "key": "'job:' || i",
            "created_at": dialect.time(created),
            "read_at": f"CASE WHEN {read} THEN {dialect.time(f'{created} + 60000')} END",
        }


def _bucket(name: str, number: int) -> str:
    """Return the condition that a time in milliseconds lies in a bucket. Each bound is twice that of the one before."""
    if number == 0:
        return f"{name} <= 1"
    upper = "" if number == BUCKETS[-1] else f" AND {name} <= {2**number}"
    return f"{name} > {2 ** (number - 1)}{upper}"


def _active(jobs: int) -> int:
    """Return how many of so many jobs wait or run."""
    return min(max(jobs // 500, 10), 2_000, jobs)


def _traceback(dialect: Dialect) -> str:
    """Return an expression for a traceback, without its last line."""
    newline = "char(10)" if dialect.is_sqlite else "chr(10)"
    lines = (
        "Traceback (most recent call last):",
        '  File "/srv/shop/tasks.py", line 42, in run_step',
        "    result = call(step)",
    )
    return " || ".join(f"'{line}' || {newline}" for line in lines)


def make_users(count: int) -> list[int]:
    """Create users without a usable password, and return their keys."""
    from django.contrib.auth import get_user_model

    model = get_user_model()
    names = [f"seed{number}" for number in range(count)]
    model.objects.bulk_create([model(username=name, password="!") for name in names], batch_size=500)
    return list(model.objects.filter(username__startswith="seed").order_by("pk").values_list("pk", flat=True))


def seed(*, jobs: int, notifications: int, users: int, heavy_share: int = 0, report: Any = None) -> None:
    """Migrate and fill the database of the settings."""
    from django.apps import apps
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    if apps.get_model("notifications", "Job").objects.exists():
        raise SystemExit("The database has jobs already. Name an empty one in DATABASE_URL.")
    seeding = Seeding(connection, users=make_users(users), heavy_share=heavy_share, report=report)
    seeding.insert(jobs=jobs, notifications=notifications)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=_count, default=1_000_000)
    parser.add_argument("--notifications", type=_count, default=1_000_000)
    parser.add_argument("--users", type=_count, default=1_000)
    parser.add_argument(
        "--heavy-share",
        type=int,
        default=0,
        metavar="N",
        help="of 1,000 jobs and notifications, how many are of the first user (0)",
    )
    parser.add_argument("--database", help="postgres, or an address like sqlite:////tmp/seed.sqlite3")


def set_up(database: str | None) -> Any:
    """Set Django up on this database. Returns the PostgreSQL server that was started for it, or None."""
    import django

    server = None
    if database == "postgres":
        from tests.support.postgres import Postgres

        server = Postgres()
        server.create("seed")
        database = server.url("seed")
    if database:
        os.environ["DATABASE_URL"] = database
    os.environ.setdefault("DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.settings")
    django.setup()
    return server


def print_progress(text: str) -> None:
    """Overwrite the last line of a terminal; print nothing into a pipe."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000_000:
        raise argparse.ArgumentTypeError("must be from 1 to 100,000,000")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    server = set_up(arguments.database)
    try:
        started = time.monotonic()
        seed(
            jobs=arguments.jobs,
            notifications=arguments.notifications,
            users=arguments.users,
            heavy_share=arguments.heavy_share,
            report=print_progress,
        )
        seconds = time.monotonic() - started
        print(
            f"{arguments.jobs:,} jobs and {arguments.notifications:,} notifications in {seconds:.0f} s: "
            f"{os.environ.get('DATABASE_URL', 'the database of the settings')}"
        )
        if server:
            input("Enter stops PostgreSQL.\n")
    except (KeyboardInterrupt, EOFError):
        raise SystemExit(130) from None
    finally:
        if server:
            server.stop()


if __name__ == "__main__":
    main()
