"""Settings of a site whose jobs run on Celery.

TEST_CELERY is a JSON object of settings without the prefix CELERY_. TEST_LOST_MESSAGES is the share of messages that
are lost.
"""

import json
import os

from tests.support.faults.engine_settings import *  # noqa: F403
from tests.support.faults.engine_settings import TASKS

globals().update(
    {
        f"CELERY_{name.upper()}": value
        for name, value in json.loads(os.environ.get("TEST_CELERY", "{}")).items()
    }
)
if os.environ.get("TEST_LOST_MESSAGES"):
    TASKS["default"]["OPTIONS"]["engine"] = "tests.contrib.engines.lossy_engine"
