"""Fixtures of the folder whose parts these tests use."""

from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    longest_backoff,
    short_join_idle,
    start_worker,
    worker,
)
