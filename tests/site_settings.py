"""Settings of the site's processes that tests start: the site's own, with what one test needs changed.

TEST_NOTIFICATIONS is a JSON object that is laid over NOTIFICATIONS, TEST_CHANNEL_LAYERS one over CHANNEL_LAYERS,
TEST_DATABASE_OPTIONS one over the OPTIONS of the database.
TEST_ENGINE is the option "engine" of the backend: "alias:db" (django-tasks-db) or "alias:rq" (django-tasks-rq, at the
Redis of TEST_RQ_URL), whose apps are then installed, or a module of an app that is.
TEST_SPANS is a file to which spans of OpenTelemetry are written: tests/support/span_file.py.
TEST_LOCALE_PATH is the folder of a catalog for the language "he".
TEST_GATE is a file: tests/support/gate.py.
TEST_URLCONF is a module of URLs in place of the site's: tests/support/blocked_loop.py.
TEST_CSP has directives that are added to the policy, such as require-trusted-types-for 'script'.
TEST_SAVE_SESSIONS=1 sets SESSION_SAVE_EVERY_REQUEST.
TEST_CHANGES has modules, separated by spaces, that change more: tests/support/changes.py.
"""

import json
import os
import sys

from asyncsite.settings import *  # noqa: F403
from asyncsite.settings import (
    CHANNEL_LAYERS,
    DATABASES,
    INSTALLED_APPS,
    LANGUAGES,
    NOTIFICATIONS,
    SECURE_CSP,
    STORAGES,
    TASKS,
)

# Only runserver needs the app, whose import is a third of the start of every process.
INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "daphne" or "runserver" in sys.argv]
NOTIFICATIONS["SCHEDULES"] = {}  # no test expects a job at night
NOTIFICATIONS["ALERTS"] = {"interval": None}  # the tests of alerts set their own; others count notifications
NOTIFICATIONS |= {"DELIVERY": {}, "CATEGORIES": {}}  # those of the site: tests/asyncsite/test_away.py
NOTIFICATIONS["RINGS_CARRY_CHANGES"] = os.environ.get("RINGS_CARRY_CHANGES") != "0"  # as in tests/settings.py
NOTIFICATIONS |= json.loads(os.environ.get("TEST_NOTIFICATIONS", "{}"))
CHANNEL_LAYERS |= json.loads(os.environ.get("TEST_CHANNEL_LAYERS", "{}"))
options = DATABASES["default"].setdefault("OPTIONS", {})
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    options["init_command"] += " PRAGMA synchronous=OFF;"  # as in tests/settings.py
options |= json.loads(os.environ.get("TEST_DATABASE_OPTIONS", "{}"))
for directive in filter(None, os.environ.get("TEST_CSP", "").split("; ")):
    name, *sources = directive.split()
    SECURE_CSP[name] = sources
SESSION_SAVE_EVERY_REQUEST = bool(os.environ.get("TEST_SAVE_SESSIONS"))

INSTALLED_APPS.append("tests.support.changes.Changes")
TEST_CHANGES = os.environ.get("TEST_CHANGES", "").split()

if urlconf := os.environ.get("TEST_URLCONF"):
    ROOT_URLCONF = urlconf

if path := os.environ.get("TEST_GATE"):
    from tests.support.gate import add_gate

    add_gate(path)
    STORAGES["notifications_files"]["OPTIONS"]["location"] = f"{path}-files"

if path := os.environ.get("TEST_SPANS"):
    from tests.support.span_file import write_spans

    write_spans(path)

if engine := os.environ.get("TEST_ENGINE"):
    TASKS["default"]["OPTIONS"] = {"engine": engine}
    if engine.startswith("alias:"):
        queues = ["default", "slow", "paused"]
        TASKS["db"] = {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": queues}
        TASKS["rq"] = {"BACKEND": "django_tasks_rq.RQBackend", "QUEUES": queues}
        INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db", "django_rq"]
        redis = {"URL": os.environ.get("TEST_RQ_URL", "redis://127.0.0.1:0/0"), "DEFAULT_TIMEOUT": 600}
        RQ_QUEUES = dict.fromkeys(queues, redis)
    else:
        INSTALLED_APPS = [*INSTALLED_APPS, engine.partition(".")[0]]

if locale_path := os.environ.get("TEST_LOCALE_PATH"):
    LOCALE_PATHS = [locale_path]  # of tests/support/pseudo_locale.py
    LANGUAGES = [*LANGUAGES, ("he", "Hebrew")]

# A sign-in costs half a second of a core with the default one.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
