"""Settings of processes whose deliveries are tested: hours of seconds, and short pauses."""

from tests.faults.support.engine_settings import *  # noqa: F403
from tests.faults.support.engine_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.support.quick_deliveries.QuickDeliveries"]
ROOT_URLCONF = "tests.faults.support.delivery_urls"
