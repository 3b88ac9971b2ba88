"""Settings of workers that meet faults: they may die at a statement, and their clock can be moved."""

from tests.site_settings import *  # noqa: F403
from tests.site_settings import INSTALLED_APPS

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "tests.faults.support.deaths.Deaths",
    "tests.faults.support.clock.Clock",
    "tests.faults.support.pages.Pages",
]
ROOT_URLCONF = "tests.faults.support.engine_urls"
# Leases of 2 s, shorter than anybody should have them, so that many end in a test.
SILENCED_SYSTEM_CHECKS = ["notifications.E004"]
