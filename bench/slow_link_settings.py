"""The project of ``tests/hosts/everything``, with compressed responses, as a proxy in front of it sends them."""

from tests.hosts.everything.settings import *  # noqa: F403
from tests.hosts.everything.settings import MIDDLEWARE

MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *MIDDLEWARE]
