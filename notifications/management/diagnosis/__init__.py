"""The checks of ``notifications doctor``, which need the database, the channel layer, the workers and the engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from django.db import Error

from notifications.db.unavailable import is_query_error
from notifications.management.diagnosis import (
    configuration,
    database,
    engines,
    jobs,
    processes,
)
from notifications.management.diagnosis.finding import ERROR, Finding
from notifications.operations.readiness import builtin_aliases


def diagnose(*, timeout: float = 10.0, page: str | None = None) -> Iterator[Finding]:
    """Run the checks and yield their findings. Ends where the later checks could not run.

    ``timeout`` is how many seconds the round trip of a job may take. ``page`` is an origin, such as
    ``https://example.com``, of which to check whether its pages may open a WebSocket.
    """
    checks = (
        database.check_clock,
        database.check_stored_times,
        database.check_rows,
        database.check_numbering,
        database.check_positions,
        database.check_unread_counts,
        processes.check_doorbell,
        processes.check_workers,
        jobs.check_paused_queues,
        jobs.check_lost_jobs,
        configuration.check_declarations,
        configuration.check_schedules,
        processes.check_outbound,
        processes.check_email,
        jobs.check_alerts,
        jobs.check_duties,
    )
    yield configuration.check_versions()
    yield (settings := configuration.check_settings())
    for check in (database.check_connection, database.check_tables):
        finding = run_check(check)
        yield finding
        if finding.state == ERROR:
            return
    if settings.state == ERROR:  # which the others may read
        return
    for check in checks:
        yield run_check(check)
    if jobs.has_observed_tasks():
        yield run_check(jobs.check_observed_tasks)
    pings = engines.ping_engines()
    for alias, ping in pings.items():
        yield run_check(partial(engines.check_engine, alias, ping))
    if page is not None:
        yield configuration.check_origin(page)
    if builtin_aliases() or not pings:
        yield run_check(lambda: processes.check_round_trip(timeout))
    for alias, ping in engines.runnable(pings).items():
        yield run_check(partial(engines.check_round_trip, alias, ping, timeout))


def diagnose_readiness() -> Iterator[Finding]:
    """Run the check for probes, which writes nothing, and yield its finding."""
    yield run_check(database.check_readiness)


def run_check(check: Callable[[], Finding]) -> Finding:
    """Run a check; an error of the database is a finding too."""
    try:
        return check()
    except Exception as exc:
        if not is_query_error(exc):
            raise
        reason = " ".join(str(exc).split())[:300] or type(exc).__name__
        if not isinstance(exc, Error):
            return Finding(
                check="resources",
                state=ERROR,
                message=f"This process lacks a resource: {reason}.",
                remedy="Check the limits of processes, threads, memory and open files, and free space on the disk.",
            )
        return Finding(
            check="database",
            state=ERROR,
            message=f"The database raised an error: {reason}.",
            remedy="Check DATABASES, the log of the database server, and free space on its disk.",
        )
