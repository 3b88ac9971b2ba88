"""Settings of workers with TEST_SCHEDULES schedules, at an interval of TEST_EVERY seconds, which may be below 1."""

import os
from datetime import timedelta

from notifications.contrib.schedules import timing
from tests.support.faults.engine_settings import *  # noqa: F403
from tests.support.faults.engine_settings import NOTIFICATIONS

timing.MIN_INTERVAL = timedelta(milliseconds=10)
SCHEDULE = {
    "task": "tests.jobs.tasks.noop",
    "every": timedelta(seconds=float(os.environ.get("TEST_EVERY", "1"))),
    "overlap": "allow",
    "grace": 600,
}
NAMES = ["poll", *(f"poll-{number}" for number in range(1, int(os.environ.get("TEST_SCHEDULES", "1"))))]
NOTIFICATIONS["SCHEDULES"] = {} if "TEST_STORED" in os.environ else dict.fromkeys(NAMES, SCHEDULE)
