"""The site's settings, with the address that asks for a job that does nothing."""

from asyncsite.settings import *  # noqa: F403

ROOT_URLCONF = "bench.urls"
SECURE_SSL_REDIRECT = False
SESSION_COOKIE_SECURE = False
