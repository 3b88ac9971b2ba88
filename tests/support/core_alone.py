"""The tests that run with the core alone: ``pytest --ds=tests.core_settings``.

Those of optional apps and of the site are left out, and those that use one of either. ``CORE_TESTS=0`` leaves out the
others, so that CI runs each once.
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
#: Files with a test that needs an optional app or the site without importing it.
NEEDS_APPS = (
    set()
    if __import__("os").environ.get("X")
    else {
        "admin/test_job_list.py",
        "data/test_crowd.py",
        "db/test_deadlines.py",
        "http/test_background_requests.py",
        "http/test_database_failures.py",
        "inbox/test_inbox_page.py",
        "http/test_withdrawn_credentials.py",
        "jobs/claiming/test_concurrency.py",
        "jobs/test_django_contract.py",
        "streams/test_retention.py",
        "test_conf.py",
    }
)
USE = re.compile(r"\b(notifications\.contrib|tests\.contrib|asyncsite)\b")


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
    is_core_alone = os.environ.get("DJANGO_SETTINGS_MODULE") == "tests.core_settings"
    if path.is_dir():
        return is_core_alone and path.parent == TESTS and path.name in OTHER_FOLDERS
    if not path.name.startswith("test_"):
        return False
    return not is_of_core(path) if is_core_alone else os.environ.get("CORE_TESTS") == "0" and is_of_core(path)


def host_urls():
    """Return the module of URLs to which tests add their own: those of the site, or of the core alone."""
    return "asyncsite.urls" if apps.is_installed("asyncsite") else "tests.core_urls"
