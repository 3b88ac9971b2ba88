"""Settings of workers with one schedule, at an interval of TEST_EVERY seconds, which may be shorter than a second."""

import os
from datetime import timedelta

from notifications.jobs.schedules import timing
from tests.faults.support.engine_settings import *  # noqa: F403
from tests.faults.support.engine_settings import NOTIFICATIONS

timing.MIN_INTERVAL = timedelta(milliseconds=10)
NOTIFICATIONS["SCHEDULES"] = {
    "poll": {
        "task": "tests.jobs.tasks.noop",
        "every": timedelta(seconds=float(os.environ.get("TEST_EVERY", "1"))),
        "overlap": "allow",
        "grace": 600,
    }
}
