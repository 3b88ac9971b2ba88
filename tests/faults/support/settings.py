"""Settings of the site's processes in the delivery tests, where rings can be lost or duplicated."""

from tests.site_settings import *  # noqa: F403
from tests.site_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.support.rings.Rings"]
