"""Workers for tests of what operators see."""

from tests.engines.conftest import engine_process, idle_engine  # noqa: F401 (fixtures)
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
