"""Which tests run where: a table of paths by marker, and the rules of mark_runs().

| run | tests | marker |
|---|---|---|
| `make test` | quick ones, which are not slow or smoke tests, but long ones | `quick`, not `nightly`, not `long` |
| `make test-all` | all | |
| `make test-merge`, which CI runs on SQLite | all but those that repeat another one | not `nightly` |
| `make test-apps`, which CI runs on SQLite | quick ones of optional apps, no other installed | not `with_all_apps` |
| CI on PostgreSQL | quick ones that the database can change, slow ones about rows and locks | `on_postgres` |
| CI on Django 5.2 | quick ones that its version can change | `on_old_django` |

A nightly test has a subject that another test covers before each merge: `.ci/run` leaves it out, `.ci/run --nightly`
does not. Such tests are marked where they are written, with `@pytest.mark.nightly`, or with
`@pytest.mark.nightly_names("*[firefox]")` when only those of these names are. Before a merge each behavior is tested
once, with one real part of each kind. What repeats it runs at night:

- with the second server, browser, broker, pool, transport or library of the same kind
- at another width, theme or language of a page, or on a second page with the same element
- in a browser without JavaScript, when the pages and forms are tested by requests, beside one page that is left
- in a browser, one more way to what a test of the same element shows, or what the tests of its requests show too
- by kills of a process that does one more kind of work, beside those of jobs and deliveries
- in projects of other people, with the newest versions of their packages
- as one long way, such as a tutorial, an import or an outage of all processes, when its parts are tested one by one
- with another way to end a session or a process, beside those that are left
- on SQLite, when faults, plans and locks of rows are tested on PostgreSQL before a merge, where they can differ
- `nightly_on_postgres`, when no query is more than Django's ORM writes, or it is about processes, pages or requests
- `nightly_on_old_django`, when it is about rows, locks, threads, calls or files, not about an interface of Django

Smoke tests are never left out.

A test is slow if its path is listed as such, or if a fixture of it starts servers, browsers or workers.
A smoke test is marked where it is written, with `@pytest.mark.smoke`: one for each transport and kind of process, and
in a browser one for each page that people use every day.
A test is long if it starts a program that is no fork (starts_program()), unless it is a smoke test, or if it is marked
so where it is written, with `@pytest.mark.long`: a second of a core for one rule. CI treats it as any other.
"""

import inspect
import os
import re
import subprocess
import types
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from tests.support import processes

TESTS = Path(__file__).resolve().parent.parent

#: Patterns of the folders and files (below tests/) of each marker.
PATHS_BY_MARKER = {
    "slow": [
        "conformance",
        "faults",
        "model",
        "packaging",
        "releases",
        "admin/test_large_tables.py",
        "admin/test_permissions.py",
        "contrib/engines/test_doctor.py",
        "commands/test_worker_processes.py",
        "contrib/webhooks/test_callbacks.py",
        "jobs/test_large_batches.py",
        "data/test_crowd.py",
        "data/test_plans*.py",
        "data/test_two_hundred.py",
        "docs/test_deploy.py",
        "contrib/*/test_not_installed.py",
        "docs/test_engines.py",
        "docs/test_extend.py",
        "docs/test_llms.py",
        "docs/test_moving_data.py",
        "docs/test_from_django_celery_results.py",
        "docs/test_from_django_notifications_hq.py",
        "docs/test_from_django_tasks_db.py",
        "docs/test_waiting_jobs.py",
        "http/test_schemathesis.py",
        "realtime/doorbell/test_transports.py",
    ],
    "alone": [
        "conformance/test_server.py",
        "contrib/celery/test_run_rabbitmq.py",
    ],
    "any_database": [
        "asyncsite",
        "browser",
        "conformance",
        "docs",
        "hosts",
        "model",
        "contrib/engines/test_doctor.py",
        "commands/test_written_output.py",
        "contrib/output/test_template_tag.py",
        "worker/test_signal_queue.py",
        "worker/test_watchdog.py",
        "outbound",
        "packaging",
        "releases",
        "support",
        "templatetags",
        "http/test_bad_requests.py",
        "http/test_blocks.py",
        "http/test_frameworks.py",
        "http/test_openapi.py",
        "http/test_live_server.py",
        "realtime/servers",
        "realtime/transports",
        "jobs/transitions/test_state_writes.py",
        "streams/test_only_writer.py",
        "test_conf.py",
        "test_distribution.py",
        "test_ids.py",
        "test_javascript.py",
        "test_layout.py",
        "test_mutants.py",
        "extension/test_shipped.py",
        "test_paths.py",
        "test_patterns.py",
        "test_states.py",
        "test_stylesheets.py",
        "test_validators.py",
        "test_venv.py",
    ],
    # Slow ones that CI repeats all the same.
    "on_postgres": [
        "contrib/engines/test_builtin.py",
        "faults/test_batches.py",
        "faults/test_counts.py",
        "faults/test_fencing.py",
        "faults/test_frozen_with_locks.py",
        "faults/test_joining.py",
        "faults/test_lost_answers.py",
        "faults/test_random_kills.py",
        "faults/test_scarcity.py",
        "faults/test_schedules.py",
        "faults/test_worker_kills.py",
        "jobs/test_large_batches.py",
    ],
    "any_django": [
        "asyncsite/test_serve.py",
        "browser",
        "conformance",
        "faults",
        "model",
        "docs",
        "support",
        "asyncsite/test_database_away.py",
        "outbound/test_decompression.py",
        "outbound/test_circuits.py",
        "outbound/test_guard.py",
        "outbound/test_pools.py",
        "outbound/test_resolver.py",
        "outbound/test_attempts.py",
        "outbound/test_slots.py",
        "outbound/test_ssrf.py",
        "realtime/doorbell",
        "packaging",
        "jobs/transitions/test_state_writes.py",
        "streams/test_only_writer.py",
        "test_javascript.py",
        "test_layout.py",
        "test_mutants.py",
        "test_patterns.py",
        "test_states.py",
        "test_stylesheets.py",
        "test_venv.py",
    ],
    # Folders, and files that have a smoke test, which no mark of a module spares.
    "nightly_on_postgres": [
        *("commands", "contrib/broadcasts", "contrib/celery", "contrib/chat", "contrib/themes"),
        *("contrib/operations/templatetags", "contrib/engines/test_builtin.py"),
        *("faults/test_worker_kills.py", "jobs/declaring", "realtime/auth", "worker/test_embedded.py"),
    ],
    "nightly_on_old_django": [
        *("commands/test_run_jobs.py", "commands/test_watch.py", "contrib/broadcasts", "contrib/celery"),
        *("contrib/chat", "contrib/deliveries", "contrib/engines", "contrib/operations/alerts"),
        *("contrib/operations/statistics", "contrib/output", "contrib/questions", "contrib/schedules"),
        *("contrib/steps", "contrib/themes", "contrib/webhooks/endpoints", "contrib/webhooks/handlers"),
        *("data", "hosts/test_wsgi.py", "jobs/claiming", "jobs/transitions", "outbound", "realtime"),
        *("streams", "worker"),
    ],
}
#: What a module says of all its tests.
PYTESTMARK = re.compile(r"^pytestmark = (\[.*?^\]|.*?$)", re.MULTILINE | re.DOTALL)


@cache
def is_listed(path: Path, marker: str) -> bool:
    """Return whether the table has the path, or a folder of it, at this marker."""
    relative = path.relative_to(TESTS)
    parts = [part.as_posix() for part in (relative, *relative.parents)]
    return any(fnmatch(part, pattern) for part in parts for pattern in PATHS_BY_MARKER[marker])


def is_left_out(path: Path, expression: str) -> bool:
    """Return whether the path alone says that the `-m` expression selects no test of it: it need not be collected."""
    if not path.is_relative_to(TESTS):
        return False
    if (nightly := re.search(r"not (nightly\w*)", expression)) and are_all_nightly(path, nightly[1]):
        return True
    match expression.partition(" ")[0]:
        case "quick":
            return are_all_slow(path)
        case "alone":
            return path.name.startswith("test_") and path.suffix == ".py" and not is_listed(path, "alone")
        case "on_postgres":
            return is_listed(path, "any_database")
        case "on_old_django":
            return is_listed(path, "any_django") or are_all_slow(path)
    return False


def are_all_slow(path: Path) -> bool:
    """Return whether the table says so of a module, and none of its tests is a smoke test."""
    is_module = path.name.startswith("test_") and path.suffix == ".py"
    return is_module and is_listed(path, "slow") and "smoke" not in path.read_text()


def are_all_nightly(path: Path, marker: str) -> bool:
    """Return whether the module says so of all its tests, or the table of its folder, and none is a smoke test."""
    if not path.name.startswith("test_") or path.suffix != ".py" or "smoke" in (source := path.read_text()):
        return False
    marks = PYTESTMARK.search(source)
    is_marked = marks and re.search(rf"mark\.{marker}\b", marks[1])
    return bool(is_marked) or (marker in PATHS_BY_MARKER and is_listed(path, marker))


def matches(name: str, pattern: str) -> bool:
    """Return whether a pattern of `nightly_names` has the name of a test. Only ``*`` is special in it."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None


#: Fixtures that start other processes.
PROCESS_FIXTURES = {
    "broker",
    "browser",
    "postgres",
    "rabbitmq",
    "redis",
    "sites",
    "start_celery",
}
#: Those whose processes are ready in less time than a test with the database takes.
QUICK_FIXTURES = {"broker", "redis"}


def mark(items: list[pytest.Item]) -> None:
    """Add the markers of each test's path and fixtures."""
    for item in items:
        for marker in PATHS_BY_MARKER:
            if is_listed(item.path, marker) and not (marker.startswith("nightly") and has(item, "smoke")):
                item.add_marker(marker)
        fixtures = set(getattr(item, "fixturenames", ()))
        if "browser" in fixtures:
            item.add_marker("browser")
        if not fixtures.isdisjoint(PROCESS_FIXTURES - QUICK_FIXTURES):
            item.add_marker("slow")
        if "postgres_sites" in fixtures and "site" not in fixtures:
            item.add_marker("any_database")
        if not has(item, "smoke") and any(map(starts_program, functions_of(item))):
            item.add_marker("long")
        mark_runs(item)
        for mark in item.iter_markers("nightly_names"):
            if not has(item, "smoke") and any(matches(item.name, pattern) for pattern in mark.args):
                item.add_marker("_on_".join(["nightly", *mark.kwargs.values()]))
        if os.environ.get("RERUNS"):
            rerun_once(item)


def functions_of(item: pytest.Item) -> list[types.FunctionType]:
    """Return the function of a test, and those of its fixtures but what is made once for all tests."""
    definitions = item._fixtureinfo.name2fixturedefs.values()
    fixtures = [one.func for several in definitions for one in several if one.scope != "session"]
    return [getattr(one, "__func__", one) for one in (item.obj, *fixtures)]


#: What starts a program, which takes a second of a core before its work begins.
STARTS = (subprocess, processes.Process, processes.run)


@cache
def starts_program(function: types.FunctionType) -> bool:
    """Return whether a function of the tests, or one that it calls, names what starts a program."""
    seen, found = set(), [inspect.unwrap(function)]
    while found:
        function = found.pop()
        seen.add(function)
        for name in names_of(function.__code__):
            value = function.__globals__.get(name)
            if any(value is one for one in STARTS):
                return True
            members = vars(value).values() if isinstance(value, type) else [value]
            found += {one for one in members if is_of_tests(one)} - seen
    return False


def is_of_tests(value: object) -> bool:
    """Return whether it is a function of a module of tests, and not of what they share, which starts forks."""
    name = value.__module__ if isinstance(value, types.FunctionType) else ""
    return name.startswith("tests.") and not name.startswith("tests.support.")


def names_of(code: types.CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes in a function and in those inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_of(constant)


def mark_runs(item: pytest.Item) -> None:
    """Mark what `make test` runs, and what CI repeats on PostgreSQL and on the older Django."""
    is_quick = has(item, "smoke") or not has(item, "slow")
    if is_quick:
        item.add_marker("quick")
    if has(
        item, "browser", "packaging"
    ):  # Neither the database nor the version of Django makes a difference.
        return
    if not has(item, "any_database") and (is_quick or has(item, "database_law")):
        item.add_marker("on_postgres")
    if is_quick and not has(item, "any_django"):
        item.add_marker("on_old_django")


def rerun_once(item: pytest.Item) -> None:
    """Have a test run once more if it fails: on a machine that stands still for seconds it misses a deadline.

    `.ci/run` does so before a merge, because one of 6,000 tests that misses one says nothing about the change. pytest
    prints the first failure in full and lists the test as RERUN, and `.ci/run` counts them: each is a defect to look
    at, of the test or of the code. `.ci/run --nightly` runs no test again, so that none of them stays unseen.
    """
    item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=5))


def has(item: pytest.Item, *markers: str) -> bool:
    return any(item.get_closest_marker(marker) for marker in markers)
