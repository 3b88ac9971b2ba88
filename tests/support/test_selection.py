"""Each entry of the tables that select tests names tests that exist, also after tests were renamed."""

import ast
import re
import subprocess
import sys
from collections import defaultdict

import pytest

from tests.hosts.host import create_host
from tests.support.selection import PATHS_BY_MARKER, TESTS, is_left_out, matches, starts_program
from tests.support.sources import list_nodes


def test_paths_exist():
    paths = {path for paths in PATHS_BY_MARKER.values() for path in paths}
    assert [path for path in sorted(paths) if not any(TESTS.glob(path))] == []


def test_files_that_a_run_does_not_collect():
    """They have no test that it would select."""
    browser, claims, server = (
        TESTS / "browser",
        TESTS / "faults/test_lost_claims.py",
        TESTS / "conformance/test_server.py",
    )
    expressions = [
        "on_postgres and not nightly_on_postgres",
        "on_old_django",
        "alone and not nightly",
        "quick",
        "",
    ]
    assert [is_left_out(browser, one) for one in expressions] == [True, True, False, False, False]
    assert [is_left_out(claims, one) for one in expressions] == [False, True, True, True, False]
    assert [is_left_out(server, one) for one in expressions] == [True, True, False, True, False]
    whole, smoke = TESTS / "http/test_schemathesis.py", TESTS / "commands/test_run_jobs.py"
    assert [is_left_out(whole, one) for one in ("not alone and not nightly", "not alone")] == [True, False]
    assert not is_left_out(smoke, "on_postgres and not nightly_on_postgres")
    assert not is_left_out(TESTS / "faults/test_worker_kills.py", "quick")  # it has a smoke test
    assert not any(is_left_out(TESTS / path, "on_postgres") for path in PATHS_BY_MARKER["on_postgres"])


def test_what_starts_a_program():
    assert starts_program(collect_ids)
    assert starts_program(create_host)  # through methods of a class of another module
    assert not starts_program(test_files_that_a_run_does_not_collect)


@pytest.mark.long
def test_nightly_names_are_those_of_tests():
    patterns = {path: names for path in TESTS.rglob("test_*.py") if (names := list_nightly_names(path))}
    ids = collect_ids(patterns)
    assert patterns
    assert [
        f"{path}: {pattern}"
        for path, names in patterns.items()
        for pattern in names
        if not any(matches(name, pattern) for name in ids[path])
    ] == []


def list_nightly_names(path):
    """Return the patterns of the marks ``nightly_names`` in a file."""
    if "nightly_names" not in path.read_text():
        return []
    calls = [node for node in list_nodes(path) if isinstance(node, ast.Call)]
    return [
        inner.value
        for call in calls
        if ast.unparse(call.func) == "pytest.mark.nightly_names"
        for argument in call.args
        for inner in ast.walk(argument)
        if isinstance(inner, ast.Constant)
    ]


def collect_ids(paths):
    """Return the names of the tests in files, by path."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        *map(str, paths),
    ]
    output = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=True).stdout
    names = defaultdict(list)
    for id in output.splitlines():
        if found := re.match(r"(tests/[\w/]+\.py)::(?:Test\w+::)?(.*)", id):
            names[TESTS.parent / found[1]].append(found[2])
    return names
