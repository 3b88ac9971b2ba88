"""The checks of ``notifications doctor``, which need the database, the channel layer, the workers and the engines.

configuration     versions, settings, declarations, the WebSocket
database          tables, clocks, numbers and counts
processes, jobs   doorbell, workers, a round trip; jobs that do not go on, duties
missing_apps      tables, jobs and waits of apps that are not installed
finding           the result of a check
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from django.utils.module_loading import import_string

from notifications.compat import task_backends
from notifications.extension import hooks
from notifications.jobs.declaring.tasks import has_engine
from notifications.management.diagnosis import configuration, database, jobs, processes
from notifications.management.diagnosis.finding import ERROR, Finding, run_check, run_checks
from notifications.management.diagnosis.missing_apps import check_missing_apps
from notifications.readiness import builtin_aliases

#: The checks that need the tables, in the order of the output.
CHECKS = (
    database.check_clock,
    database.check_stored_times,
    database.check_numbering,
    database.check_positions,
    database.check_unread_counts,
    processes.check_doorbell,
    processes.check_workers,
    jobs.check_paused_queues,
    jobs.check_shares,
    jobs.check_lost_jobs,
    jobs.check_hooks,
    jobs.check_left_tasks,
    check_missing_apps,
    configuration.check_declarations,
    processes.check_outbound,
    jobs.check_duties,
    configuration.check_socket,
)


def diagnose(*, timeout: float = 10.0, page: str | None = None) -> Iterator[Finding]:
    """Run the checks and yield their findings. Ends where the later checks could not run.

    ``timeout`` is how many seconds the round trip of a job may take. ``page`` is an origin, such as
    ``https://example.com``, of which to check whether its pages may open a WebSocket.
    """
    yield configuration.check_versions()
    yield (settings := configuration.check_settings())
    for check in (database.check_connection, database.check_tables, database.check_writes):
        finding = run_check(check)
        yield finding
        if finding.state == ERROR:
            return
    if settings.state == ERROR:  # which the others may read
        return
    for check in CHECKS:
        yield run_check(check)
    if page is not None:
        yield run_check(partial(configuration.check_origin, page))
    if builtin_aliases() or not any(map(has_engine, task_backends.settings)):
        yield run_check(partial(processes.check_round_trip, timeout))
    for path in hooks.findings.values():
        yield from run_checks(partial(import_string(path), timeout))


def diagnose_readiness() -> Iterator[Finding]:
    """Run the check for probes, which writes nothing, and yield its finding."""
    yield run_check(database.check_readiness)
