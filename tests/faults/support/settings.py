"""Settings of the site's processes in the delivery tests: rings can be lost or doubled."""

from tests.site_settings import *  # noqa: F403
from tests.site_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.support.rings.Rings"]
