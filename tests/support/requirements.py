"""What to do when a program that a test needs is not installed."""

import glob
import os
import shutil

import pytest


def program(name, *, package, places=()):
    """The path of a program, looked up on PATH and then in `places` (globs, the last match wins).

    Missing: the test is skipped with the name of the Debian package; with REQUIRE_SERVICES=1 it fails.
    """
    if found := shutil.which(name):
        return found
    matches = sorted(match for place in places for match in glob.glob(place))
    if matches:
        return matches[-1]
    missing(f"{name} is not installed (Debian: apt-get install {package}).")


def missing(reason):
    if os.environ.get("REQUIRE_SERVICES", "0") not in ("", "0"):
        pytest.fail(f"{reason} REQUIRE_SERVICES is set.", pytrace=False)
    pytest.skip(reason)
