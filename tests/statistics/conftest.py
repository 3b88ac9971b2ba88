"""Workers for tests of statistics."""

from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    live_worker,
    longest_backoff,
    short_join_idle,
    start_worker,
    with_engine,
    without_engine,
    worker,
)
