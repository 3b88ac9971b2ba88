"""Settings of processes with faults: at a statement, of their clock, and of their disk."""

import os

from tests.site_settings import *  # noqa: F403
from tests.site_settings import INSTALLED_APPS, TEST_CHANGES

TEST_CHANGES += [
    f"tests.support.faults.{name}" for name in ("statement_faults", "clock", "full_disk", "quick_roll_up")
]
ROOT_URLCONF = "tests.support.faults.engine_urls"
# Leases of 2 s, shorter than recommended, so that many end in a test.
SILENCED_SYSTEM_CHECKS = ["notifications.E004"]
if os.environ.get("FAULT_HOOK"):
    INSTALLED_APPS += ["tests.support.faults.failing_hook.FailingHook"]
