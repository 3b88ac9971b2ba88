"""Settings of the tests of the core alone: the apps of the quick start, and neither optional apps nor the site."""

from django.conf import global_settings

from tests.settings import *  # noqa: F403

INSTALLED_APPS = [
    "daphne",
    "notifications",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
ROOT_URLCONF = "tests.core_urls"
CSRF_FAILURE_VIEW = global_settings.CSRF_FAILURE_VIEW
NOTIFICATIONS = {}
