"""Settings of workers in a host whose own code is hostile."""

from tests.faults.support.engine_settings import *  # noqa: F403
from tests.faults.support.engine_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.support.hostile.Hostile"]
