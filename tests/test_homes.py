"""Each worry has one home: the other modules are written as if it did not exist.

The lists name the modules that speak of a worry, with the reason. What is listed and does not speak of it any more
leaves the list. A helper that swallows an error counts as an ``except`` at each place that calls it.
"""

import ast
from collections import Counter
from pathlib import Path
from textwrap import dedent

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
    if isinstance(node, ast.Name | ast.Attribute):
        return SWALLOWING & {node.id if isinstance(node, ast.Name) else node.attr}
    if isinstance(node, ast.Call) and "suppress" in names_called_by(node):
        return names_in(*node.args)
    return set()


#: Classes of errors, or tuples of them, that mean or include that the database is away.
DATABASE_ERRORS = {
    "UNAVAILABLE",
    "QUERY_ERRORS",
    "OUTAGES",
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
    *("supports_timezones", "takes_times", "runs_in_process", "has_one_writer"),
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
    """``except Exception``, and calls of what swallows in place of it: ``db.catching()`` keeps the error."""
    return bool(names_caught_by(node) & {"Exception", "BaseException"}) or "catching" in names_called_by(node)


def starts_a_thread(node):
    bases = names_in(*node.bases) if isinstance(node, ast.ClassDef) else set()
    return bool((names_called_by(node) | bases) & THREADS)


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
    """Return the reason of each module of a list: on its line after a colon, or above several, which are indented."""
    reasons, reason = {}, ""
    for line in dedent(text).strip().splitlines():
        if line.startswith(" "):
            reasons |= dict.fromkeys(line.replace(",", " ").split(), reason)
        else:
            name, _, reason = line.partition(":")
            if reason:
                reasons[name] = reason.strip()
            else:
                reason = name
    return reasons


#: Where it is known what to do while the database is away: the runners of loops, and the edges of HTTP.
OUTAGE_HOMES = (
    "db/",
    "worker/",  # its loops
    *("contrib/output/storage", "contrib/steps/storage"),  # the loops of its parts
    *("upkeep", "contrib/celery/beat"),  # rounds
    "contrib/celery/task_messages",  # the edge of Celery's messages
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
    jobs/calling_owed: what a hook raises in a call that is owed has it called again later
    realtime/reader: rows that another program has damaged are read user by user
    streams: what it follows is committed, and would be written again
    templatetags/notifications: a page of the project is shown without the bell's count
    testing/inline: a transaction that a job leaves broken is taken back to its begin
    """
)

#: Each names its thread; the reason says what bounds it.
THREADS_STARTED = listed(
    """
    one for each process or server, until it ends
        contrib/celery/main_process contrib/engines/server
        contrib/engines/wakeups realtime/auth/sign_outs realtime/doorbell realtime/doorbell/channel_layer
        realtime/doorbell/other_processes realtime/pool jobs/job_ends
    one or two for each worker, until it ends
        contrib/celery/worker worker/event_loop worker/lease worker/watchdog worker/writer
    as many as jobs run at a time
        worker/job_runner
    a pool of a fixed size, of calls that may hang
        contrib/engines/findings contrib/files/removing contrib/operations/admin/overview/page
        contrib/rates/calls http/health_views
        http/idempotency jobs/transitions/notify_functions outbound/pools outbound/resolver
    contrib/webhooks/handlers: it only imports a module, once
    management/commands/run_jobs: one for each command, until it ends
    testing/client: one for each client of a test, until its block ends
    """
)

CLOCKS = listed(
    """
    what a person has written as a time to come is compared with the time at which it is read
        admin/confirmation contrib/broadcasts/admin/forms contrib/broadcasts/starting
        contrib/deliveries/preference_api contrib/deliveries/preferences contrib/deliveries/quiet_hours
        contrib/operations/periods contrib/questions/models jobs/turns management/subcommands/job_verbs
        states streams/snoozing
    what is due by the database's time, in a query of the duty that does it
        contrib/deliveries/digests contrib/deliveries/sending contrib/files/pages contrib/files/removing
        contrib/files/views contrib/questions/reminders jobs/outcomes
        contrib/schedules/problems contrib/schedules/stored contrib/schedules/ticks
        contrib/schedules/undeclared
        contrib/webhooks/callback_storage jobs/claiming/candidates jobs/transitions/limit_openings
        jobs/transitions/queueing jobs/transitions/reaping jobs/transitions/waiting jobs/waits
        jobs/calling_owed streams/retention testing/inline
    what is stored too far ahead is taken for the time of a clock that was fast
        contrib/deliveries/outages readiness worker/lease
    the monotonic clock of the process, by which no other one counts
        extension/duty outbound/circuits realtime/auth/sign_outs
        realtime/servers/websocket_frames realtime/transports/sse realtime/transports/websocket upkeep
        worker/claim_loop
    times of the past, for pages, checks and alerts
        contrib/operations/admin/overview/history contrib/operations/alerts/conditions
        contrib/operations/alerts/failing contrib/output/views
        contrib/webhooks/sending
    contrib/schedules/timing: it computes the ticks themselves, of any moment
    realtime/auth/sessions: sessions of Django end by the clock of its process
    """
)

BROAD = listed(
    """
    the home of code of the project, and of hooks
        db/project_code db/imports extension/calls extension/installed
        jobs/calling_owed jobs/owed_calls jobs/announcing
    a thread or loop must go on, logs the error and tries again
        worker/event_loop
        contrib/engines/wakeups contrib/engines/worker db/signal_queue db/supervised
        upkeep worker/loops worker/writer
    the error is given to the call that waits for the result
        db/thread_calls db/threads jobs/job_ends outbound/resolver testing/client
    what a task raises is the outcome of its job, which is stored
        worker/execution worker/job_runner contrib/steps/api
    what is refused for one is logged, and the others are stored, read or called
        jobs/transitions/limiting
        contrib/operations/alerts/evaluation contrib/schedules/stored
        realtime/doorbell realtime/reader serializers worker/record_loop worker/state
    it is committed already, and would be written again
        contrib/questions/views jobs/transitions/recording
    a setting names code that may raise anything, and a check, a page or a command says what is wrong
        contrib/celery/checks contrib/engines
        contrib/schedules/enqueueing contrib/webhooks/handlers
        http/authentication jobs/declaring/own_tasks management/diagnosis/checking
        management/diagnosis/processes management/management_command readiness realtime/checks realtime/probe
    a form, an authenticator, a session store or a feed of the project fails, and one person is told, or asked again
        contrib/questions/answer_forms realtime/auth/sign_outs
        realtime/transports/consumers realtime/transports/feeds
    a channel of the project raises anything, and its deliveries are stored as failed, or tried again
        contrib/deliveries/attempts contrib/deliveries/emails contrib/deliveries/errors
    a library or a class of the project raises errors without a common class, which become one that has a name
        contrib/celery/task_messages jobs/job_context validators
    a server or a layer raises errors of its own when a connection is lost, and another version may differ
        realtime/doorbell/channel_layer realtime/servers/daphne realtime/servers/uvicorn
        realtime/transports/websocket
    it asks more than whether the database is away, and raises the others
        http/idempotency
        jobs/durable_calls realtime/servers/overload
    db/job_sessions: a session that cannot be renewed is closed, and receivers of the project open the next one
    tracing/spans: samplers and processors of the project must not fail what they observe
    """
)


@pytest.mark.parametrize(
    ("is_place", "homes", "others", "limit"),
    [
        pytest.param(names_a_vendor, ("db/",), VENDORS, 5, id="a vendor"),
        pytest.param(catches_database_errors, OUTAGE_HOMES, DATABASE_AWAY, 10, id="the database is away"),
        pytest.param(starts_a_thread, ("db/",), THREADS_STARTED, 31, id="a thread"),
        pytest.param(compares_with_the_clock, ("db/",), CLOCKS, 75, id="the clock"),
        pytest.param(catches_broadly, ("nowhere",), BROAD, 79, id="a broad catch"),
    ],
)
@pytest.mark.long
def test_a_worry_stays_at_home(is_place, homes, others, limit):
    found = count(is_place)
    outside = (
        {name: number for name, number in found.items() if not name.startswith(homes)} if homes else found
    )
    assert not outside.keys() - others.keys(), "Call what the home offers."
    assert not others.keys() - outside.keys(), "Take the module from the list."
    assert sum(outside.values()) <= limit
