"""Fixtures of the folders whose parts these tests use."""

from tests.http.conftest import asgi, user_client  # noqa: F401 (fixtures)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
