"""The tests that run with the core alone, and those of an optional app with this one beside it.

    pytest --ds=tests.core_settings                                                       # the core
    TEST_APP=steps pytest --ds=tests.app_settings -m quick tests/contrib/steps            # or make test-apps

With the core alone, tests of optional apps and of the site are left out, and those that use one of either. With one
app those are left out whose marker ``with_all_apps`` says why. So that CI runs each test once, ``CORE_TESTS=0`` leaves
out those of the core, and ``APP_TESTS=0`` what ``make test-apps`` runs.
"""

import os
import re
from functools import cache
from pathlib import Path

from django.apps import apps

TESTS = Path(__file__).resolve().parent.parent
#: Folders of tests with other subjects, or whose processes have settings of their own.
OTHER_FOLDERS = {
    *("asyncsite", "browser", "conformance", "contrib", "docs", "faults", "hosts", "model"),
    *("packaging", "typing"),
}
#: Files with a test that needs an optional app without importing it, and the reason.
NEEDS_APPS = {
    "http/test_background_requests.py": "Pages poll the overview of operations and the output of a job, too.",
    "http/test_withdrawn_credentials.py": "The output of a job is a stream, too.",
    "jobs/transitions/test_recording_races.py": "Pauses need steps.",
    "jobs/test_waits.py": "Pauses need steps and callbacks.",
    "jobs/transitions/test_waiting.py": "Pauses need steps.",
}
USE = re.compile(r"\b(notifications\.contrib|tests\.contrib|asyncsite)\b")
#: Tests of several apps, or of packages of other projects.
OTHER_CONTRIB_FOLDERS = {"themes"}
#: A file whose tests all need other apps, which its imports may.
NEEDS_ALL_APPS = re.compile(r"^pytestmark = (\[[^\]]*|.*)with_all_apps\(", re.MULTILINE)


@cache
def is_of_core(path):
    """Return whether the tests of a file run with the core alone."""
    name = path.relative_to(TESTS)
    return (
        name.parts[0] not in OTHER_FOLDERS
        and str(name) not in NEEDS_APPS
        and not USE.search(path.read_text())
    )


def is_left_out(path):
    """Return whether a file or folder is not collected in this run."""
    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    is_core_alone = settings == "tests.core_settings"
    if path.is_dir():
        return is_core_alone and path.parent == TESTS and path.name in OTHER_FOLDERS
    if not path.name.startswith("test_"):
        return False
    if settings == "tests.app_settings":
        return NEEDS_ALL_APPS.search(path.read_text()) is not None
    return not is_of_core(path) if is_core_alone else os.environ.get("CORE_TESTS") == "0" and is_of_core(path)


def is_deselected(item):
    """Return whether a test is not run with its app or the core alone, or is run so by another run of CI."""
    needs_all_apps = item.get_closest_marker("with_all_apps") is not None
    if os.environ.get("DJANGO_SETTINGS_MODULE") in ("tests.app_settings", "tests.core_settings"):
        return needs_all_apps
    contrib = TESTS / "contrib"
    return (
        os.environ.get("APP_TESTS") == "0"
        and not needs_all_apps
        and item.path.is_relative_to(contrib)
        and item.path.relative_to(contrib).parts[0] not in OTHER_CONTRIB_FOLDERS
        and item.get_closest_marker("quick") is not None
    )


def host_urls():
    """Return the module of URLs to which tests add their own: those of the site, or of the core alone."""
    return "asyncsite.urls" if apps.is_installed("asyncsite") else "tests.core_urls"
