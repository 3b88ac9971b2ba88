"""Each entry of the tables that select tests names tests that exist, also after tests were renamed."""

import re
import subprocess
import sys

from tests.hosts.host import create_host
from tests.support.nightly import NIGHTLY
from tests.support.selection import (
    COLLECTED_IDS,
    PATHS_BY_MARKER,
    TESTS,
    compile_ids,
    is_left_out,
    starts_program,
)


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
    assert [is_left_out(claims, one) for one in expressions] == [False, True, True, False, False]
    assert [is_left_out(server, one) for one in expressions] == [True, True, False, False, False]
    whole, smoke = TESTS / "http/test_schemathesis.py", TESTS / "commands/test_run_jobs.py"
    assert [is_left_out(whole, one) for one in ("not alone and not nightly", "not alone")] == [True, False]
    assert not is_left_out(smoke, "on_postgres and not nightly_on_postgres")
    assert not any(is_left_out(TESTS / path, "on_postgres") for path in PATHS_BY_MARKER["on_postgres"])


def test_what_starts_a_program():
    assert starts_program(collect_ids)
    assert starts_program(create_host)  # through methods of a class of another module
    assert not starts_program(test_files_that_a_run_does_not_collect)


def test_nightly_ids_match_tests(request):
    patterns = sorted({pattern for patterns in NIGHTLY.values() for pattern in patterns})
    whole = {one: file[1] for one in patterns if (file := re.fullmatch(r"([\w/]+?(\.py)?)(::|/)\*", one))}
    assert [one for one, file in whole.items() if not (TESTS / file).exists()] == []
    parts = [one for one in patterns if one not in whole]
    # A run of all tests has collected these, but for files of which no test was selected.
    if request.config.args == ["tests"]:
        left_out = [one for one in parts if one.partition("::")[0] in whole.values()]
        ids = [*request.config.stash[COLLECTED_IDS], *collect_ids(left_out)]
    else:
        ids = collect_ids(parts)
    names = [id.removeprefix("tests/") for id in ids]
    assert [one for one in parts if not any(map(compile_ids([one]).fullmatch, names))] == []


def collect_ids(patterns):
    files = sorted({pattern.partition("::")[0] for pattern in patterns})
    # A pattern such as "browser/*[firefox]" names no file: its folder is collected.
    collected = [str(TESTS / file.partition("*")[0]) for file in files]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *collected]
    output = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=True).stdout
    return [line for line in output.splitlines() if "::" in line]
