"""Settings of the tests: the site's, in development mode, on a database file of their own."""

import os
from pathlib import Path

os.environ.setdefault("SECRET_KEY", "tests")
os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("EMBEDDED_WORKER", "0")

TEST_DIR = Path(os.environ["TEST_DIR"])  # made and removed by tests/support/plugin.py
os.environ.setdefault("DATABASE_URL", f"sqlite:///{TEST_DIR / 'site.sqlite3'}")

from asyncsite.settings import *  # noqa: E402, F403
from asyncsite.settings import DATABASES, INSTALLED_APPS, NOTIFICATIONS  # noqa: E402

if "notifications.contrib.celery" not in INSTALLED_APPS:
    INSTALLED_APPS += ["notifications.contrib.celery"]

# No test expects a job at night.
SITE_SCHEDULES, NOTIFICATIONS["SCHEDULES"] = NOTIFICATIONS["SCHEDULES"], {}
# Tests of deliveries configure their own.
NOTIFICATIONS |= {"SITE_URL": "", "DELIVERY": {}, "CATEGORIES": {}}
# By night tests of delivery run without it too. Tests of what is carried need it.
NOTIFICATIONS["RINGS_CARRY_CHANGES"] = os.environ.get("RINGS_CARRY_CHANGES") != "0"

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, because threads and processes share it.
    DATABASES["default"]["TEST"] = {"NAME": str(TEST_DIR / "test.sqlite3")}
    # No test cuts the power: each of some thousand tests would wait for the disk at five commits.
    DATABASES["default"]["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
