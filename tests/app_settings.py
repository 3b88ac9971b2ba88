"""Settings of the tests of one optional app: the apps of the quick start and this one, which TEST_APP names."""

import os

from tests.core_settings import *  # noqa: F403
from tests.core_settings import INSTALLED_APPS

TEST_APP = os.environ["TEST_APP"]
#: The optional apps without which others do nothing.
REQUIRED = {"celery": ["engines"], "chat": ["deliveries"]}
INSTALLED_APPS += [f"notifications.contrib.{name}" for name in [*REQUIRED.get(TEST_APP, ()), TEST_APP]]
