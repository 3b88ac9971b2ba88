"""Settings of workers in a project with hostile code."""

from tests.faults.support.engine_settings import *  # noqa: F403
from tests.faults.support.engine_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.support.hostile.Hostile"]
