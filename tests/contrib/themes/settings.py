"""Settings of the tests with another theme of the admin, which the environment names."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MIDDLEWARE

THEME = os.environ["THEME"]
APPS = {
    "unfold": ["unfold"],
    "jazzmin": ["jazzmin"],
    "wagtail": [
        *("wagtail.users", "wagtail.images", "wagtail.documents", "wagtail.admin", "wagtail"),
        *("wagtail.search", "modelcluster", "taggit", "treebeard"),
    ],
}
ADAPTERS = [] if "WITHOUT_ADAPTER" in os.environ else [f"notifications.contrib.{THEME}"]
INSTALLED_APPS = [*ADAPTERS, *APPS[THEME], *INSTALLED_APPS]
# The scripts of these themes need 'unsafe-eval' or inline scripts.
MIDDLEWARE = [path for path in MIDDLEWARE if not path.endswith("ContentSecurityPolicyMiddleware")]
ROOT_URLCONF = "tests.contrib.themes.urls"
WAGTAIL_SITE_NAME = "Site"
WAGTAILADMIN_BASE_URL = "http://localhost"
