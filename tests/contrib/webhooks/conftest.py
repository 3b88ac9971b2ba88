"""Fixtures of jobs and of the admin."""

from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    live_worker,
    longest_backoff,
    rings,
    short_join_idle,
    start_worker,
    with_engine,
    without_engine,
    worker,
)
