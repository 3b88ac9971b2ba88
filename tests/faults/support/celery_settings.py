"""Settings of a site whose jobs run on Celery. TEST_CELERY is a JSON object of settings without the prefix CELERY_."""

import json
import os

from tests.faults.support.engine_settings import *  # noqa: F403

ROOT_URLCONF = "tests.faults.support.celery_urls"
globals().update(
    {
        f"CELERY_{name.upper()}": value
        for name, value in json.loads(os.environ.get("TEST_CELERY", "{}")).items()
    }
)
