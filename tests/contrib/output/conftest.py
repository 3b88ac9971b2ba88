"""Fixtures of the folders whose parts these tests use."""

from tests.http.conftest import asgi, user_client  # noqa: F401 (fixtures)
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    longest_backoff,
    short_join_idle,
    start_worker,
    with_engine,
    worker,
)
