"""Each worry has one home: the other modules are written as if it did not exist.

The lists name the modules that speak of a worry, with the reason. What is listed and does not speak of it any more
leaves the list. A helper that swallows an error counts as an ``except`` at each place that calls it.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.support.sources import list_nodes

PACKAGE = Path(__file__).resolve().parent.parent / "notifications"


def list_modules():
    """Yield the name of each module of the package, and the nodes of its tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            name = path.relative_to(PACKAGE).with_suffix("").as_posix()
            yield name.removesuffix("/__init__"), list_nodes(path)


def count(is_place):
    """Return how many lines of each module are such places."""
    found = {name: len({node.lineno for node in nodes if is_place(node)}) for name, nodes in list_modules()}
    return Counter({name: number for name, number in found.items() if number})


def names_in(*nodes):
    """Return the last part of each name that these nodes use."""
    return {
        getattr(each, "id", None) or getattr(each, "attr", None)
        for node in nodes
        for each in ast.walk(node)
        if isinstance(each, ast.Name | ast.Attribute)
    }


def names_called_by(node):
    return names_in(node.func) if isinstance(node, ast.Call) else set()


def names_caught_by(node):
    """Return the names that an ``except`` or a helper that swallows catches, and those that the handler looks at."""
    if isinstance(node, ast.ExceptHandler):
        looked_at = names_in(*node.body) & LOOKS
        return looked_at | (names_in(node.type) if node.type else {"BaseException"})
    if "suppress" in names_called_by(node):
        return names_in(*node.args)
    if isinstance(node, ast.Name | ast.Attribute):
        return names_in(node) & SWALLOWING
    return set()


#: Classes of errors, or tuples of them, that mean or include that the database is away.
DATABASE_ERRORS = {
    "UNAVAILABLE",
    "QUERY_ERRORS",
    "DATABASE_UNAVAILABLE",
    "RETRIED_ERRORS",
    "OperationalError",
    "InterfaceError",
    "DatabaseError",
    "_LOOKUP_ERRORS",
}
#: What a broad ``except`` asks to find such an error.
LOOKS = {"is_unavailable", "is_query_error", "UNAVAILABLE", "QUERY_ERRORS"}
#: Helpers that swallow such an error for their caller.
SWALLOWING = {"retry_while_unavailable"}
DIALECT_NAMES = ("sqlite", "postgresql")
#: Features of Django's backends, and properties of ``Dialect``, that only one of the two has.
PROPERTIES = (
    *("has_select_for_update", "has_select_for_update_skip_locked", "has_select_for_no_key_update"),
    *("supports_timezones", "takes_times", "runs_in_process", "locks_rows", "has_one_writer"),
)
THREADS = {"Thread", "Timer", "ThreadPoolExecutor", "start_thread", "SupervisedThread", "DaemonExecutor"}


def names_a_vendor(node):
    """``db.vendor``, a feature of the backend that means the same, or a name of a vendor as a key or value."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("vendor", *PROPERTIES)
    return isinstance(node, ast.Constant) and node.value in DIALECT_NAMES


def catches_database_errors(node):
    return bool(names_caught_by(node) & (DATABASE_ERRORS | LOOKS | SWALLOWING))


def catches_broadly(node):
    return bool(names_caught_by(node) & {"Exception", "BaseException"})


def starts_a_thread(node):
    return bool(names_called_by(node) & THREADS)


def is_time_of_day(node):
    if isinstance(node, ast.Call):
        return bool({getattr(node.func, "attr", ""), getattr(node.func, "id", "")} & {"now", "database_now"})
    return isinstance(node, ast.Name) and node.id in ("now", "moment")


def compares_with_the_clock(node):
    """``run_after > now``, or ``filter(run_after__lt=now)``."""
    if isinstance(node, ast.Compare):
        is_order = any(isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for operator in node.ops)
        return is_order and any(map(is_time_of_day, [node.left, *node.comparators]))
    if isinstance(node, ast.keyword) and (node.arg or "").endswith(("__lt", "__lte", "__gt", "__gte")):
        return any(map(is_time_of_day, ast.walk(node.value)))
    return False


def listed(text):
    """Return the modules of a list, one on a line, each perhaps with its reason after a colon."""
    return {line.partition(":")[0].strip() for line in text.strip().splitlines()}


#: Where it is known what to do while the database is away: the runners of loops, and the edges of HTTP.
OUTAGE_HOMES = (
    "db/",
    "worker/",  # its loops
    *("contrib/output/storage", "contrib/steps/storage"),  # the loops of its parts
    *("upkeep", "contrib/celery/main_process", "contrib/engines/server", "contrib/celery/beat"),  # rounds
    *("jobs/job_ends", "realtime/doorbell/postgres"),  # the work of supervised threads
    *("http/", "admin/mixins", "problems", "readiness", "realtime/servers/overload"),  # the edges of HTTP
    "management/",
)


# Modules outside of the homes that still do so. A list only gets shorter.
VENDORS = listed(
    """
    contrib/celery/main_process: a child process must not be forked while a thread is inside of SQLite
    extension/calls: it is below db, and knows transactions that an error ends
    jobs/claiming/claim_queries: one statement claims where rows are locked
    times: fields of models convert times, below db
    worker/state: one writer claims and records, or two
    contrib/rates/tokens: it goes with its limits
    """
)

DATABASE_AWAY = listed(
    """
    contrib/deliveries/attempts: what a server has answered is stored, or the message would be sent twice
    contrib/output/pages: the page is shown without the output, which its script reads
    contrib/rates/calls: it goes with its limits
    contrib/webhooks/sending: what a server has answered is stored, or the event would be sent twice
    jobs/end_signals: the outcome is committed, and the next signals are sent
    jobs/transitions/limiting: a hook that fails has its jobs wait, not all of them
    realtime/reader: rows that another program has damaged are read user by user
    streams: what it follows is committed, and would be written again
    templatetags/notifications: a page of the project is shown without the bell's count
    testing/inline: a job that has not begun stays queued
    """
)

THREADS_STARTED = listed(
    """
    contrib/celery/worker
    contrib/engines/findings
    contrib/engines/wakeups
    contrib/operations/admin/overview/page
    contrib/rates/calls
    contrib/webhooks/handlers
    http/health_views
    http/idempotency
    jobs/job_ends
    jobs/transitions/notify_functions
    management/commands/run_jobs
    outbound/pools
    outbound/resolver
    realtime/auth/sign_outs
    realtime/doorbell
    realtime/doorbell/channel_layer
    realtime/doorbell/other_processes
    realtime/doorbell/postgres
    realtime/pool
    testing/client
    worker/event_loop
    worker/job_runner
    worker/lease
    worker/watchdog
    worker/writer
    """
)

CLOCKS = listed(
    """
    admin/confirmation
    contrib/broadcasts/admin/forms
    contrib/broadcasts/starting
    contrib/deliveries/digests
    contrib/deliveries/outages
    contrib/deliveries/preference_api
    contrib/deliveries/preferences
    contrib/deliveries/quiet_hours
    contrib/deliveries/sending
    contrib/operations/admin/overview/history
    contrib/operations/alerts/conditions
    contrib/operations/periods
    contrib/output/views
    contrib/questions/models
    contrib/questions/reminders
    contrib/rates/findings
    contrib/rates/metrics
    contrib/schedules/problems
    contrib/schedules/ticks
    contrib/schedules/timing
    contrib/schedules/undeclared
    contrib/webhooks/callback_storage
    contrib/webhooks/callback_view
    contrib/webhooks/sending
    jobs/claiming/candidates
    jobs/transitions/limit_openings
    jobs/transitions/queueing
    jobs/transitions/reaping
    jobs/transitions/waiting
    jobs/turns
    jobs/waits
    management/subcommands/job_verbs
    outbound/circuits
    readiness
    realtime/auth/sessions
    realtime/auth/sign_outs
    realtime/servers/websocket_frames
    realtime/transports/sse
    realtime/transports/websocket
    states
    streams/retention
    streams/snoozing
    testing/inline
    upkeep
    worker/claim_loop
    worker/lease
    """
)

BROAD = listed(
    """
    admin/mixins
    contrib/celery/beat
    contrib/celery/checks
    contrib/celery/engine
    contrib/celery/job_arguments
    contrib/celery/job_execution
    contrib/celery/job_task
    contrib/celery/task_messages
    contrib/deliveries/emails
    contrib/deliveries/errors
    contrib/deliveries/pushes
    contrib/deliveries/sending
    contrib/deliveries/vapid
    contrib/engines
    contrib/engines/backend
    contrib/engines/wakeups
    contrib/engines/worker
    contrib/output/storage
    contrib/questions/answer_forms
    contrib/questions/reminders
    contrib/questions/views
    contrib/schedules/declarations
    contrib/schedules/tasks
    contrib/slack/apps
    contrib/steps/api
    contrib/steps/storage
    contrib/webhooks/handlers
    contrib/webhooks/signing
    db/deadlines
    db/dialects/postgresql
    db/imports
    db/job_sessions
    db/project_code
    db/project_threads
    db/signal_queue
    db/supervised
    db/thread_connections
    db/threads
    db/unavailable
    extension/calls
    extension/installed
    http/acceptance
    http/access
    http/authentication
    http/idempotency
    jobs/backend
    jobs/declaring/own_tasks
    jobs/declaring/policy_settings
    jobs/declaring/tasks
    jobs/durable_calls
    jobs/end_signals
    jobs/job_context
    jobs/job_ends
    jobs/notifying
    jobs/outcomes
    jobs/results
    jobs/transitions/batch_completion
    jobs/transitions/limiting
    jobs/transitions/notify_functions
    jobs/transitions/recording
    jobs/transitions/waiting
    management/diagnosis/checking
    management/diagnosis/configuration
    management/diagnosis/database
    management/diagnosis/processes
    management/management_command
    outbound/client
    outbound/exchange
    outbound/resolver
    outbound/slots
    problems
    readiness
    realtime/auth/sign_outs
    realtime/checks
    realtime/doorbell
    realtime/doorbell/channel_layer
    realtime/doorbell/other_processes
    realtime/doorbell/postgres
    realtime/doorbell/sqlite
    realtime/feeds
    realtime/probe
    realtime/reader
    realtime/servers/daphne
    realtime/servers/overload
    realtime/servers/uvicorn
    realtime/transports/consumers
    realtime/transports/feeds
    realtime/transports/websocket
    receivers
    serializers
    streams/changes
    testing/client
    testing/inline
    tracing/spans
    upkeep
    validators
    worker/claim_loop
    worker/embedded
    worker/event_loop
    worker/execution
    worker/job_runner
    worker/lease
    worker/loops
    worker/record_loop
    worker/state
    worker/worker
    worker/writer
    """
)


@pytest.mark.parametrize(
    ("is_place", "homes", "others", "limit"),
    [
        pytest.param(names_a_vendor, ("db/",), VENDORS, 6, id="a vendor"),
        pytest.param(catches_database_errors, OUTAGE_HOMES, DATABASE_AWAY, 13, id="the database is away"),
        pytest.param(starts_a_thread, ("db/",), THREADS_STARTED, 29, id="a thread"),
        pytest.param(compares_with_the_clock, ("db/",), CLOCKS, 67, id="the clock"),
        pytest.param(catches_broadly, ("nowhere",), BROAD, 159, id="a broad catch"),
    ],
)
def test_a_worry_stays_at_home(is_place, homes, others, limit):
    found = count(is_place)
    outside = (
        {name: number for name, number in found.items() if not name.startswith(homes)} if homes else found
    )
    assert not set(outside) - others, "Call what the home offers."
    # Of the long lists some branches take modules away at the same time.
    if others in (VENDORS, DATABASE_AWAY):
        assert not others - set(outside), "Take the module from the list."
    assert sum(outside.values()) <= limit
