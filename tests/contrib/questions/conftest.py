"""Fixtures of tests of questions."""

from tests.extension.conftest import recorder, shop  # noqa: F401 (fixtures)
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    short_join_idle,
    start_worker,
    with_engine,
    without_engine,
    worker,
)
