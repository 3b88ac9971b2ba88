"""Find the programs that tests need."""

import glob
import os
import shutil

import pytest


def find_program(name, *, package, patterns=()):
    """Return the path of a program, from PATH or the last match of the glob `patterns`.

    Without one the test is skipped, with the name of the Debian package; with REQUIRE_SERVICES=1 it fails.
    """
    if found := shutil.which(name):
        return found
    matches = sorted(match for pattern in patterns for match in glob.glob(pattern))
    if matches:
        return matches[-1]
    skip_or_fail(f"{name} is not installed (Debian: apt-get install {package}).")


def skip_or_fail(reason, *, variable="REQUIRE_SERVICES"):
    """Skip the test; fail it if this environment variable is set."""
    if os.environ.get(variable, "0") not in ("", "0"):
        pytest.fail(f"{reason} {variable} is set.", pytrace=False)
    pytest.skip(reason)
