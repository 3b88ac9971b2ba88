"""Fixtures of deliveries."""

from tests.contrib.deliveries.conftest import (  # noqa: F401 (fixtures)
    configure,
    gate,
    longest_backoff,
    outbox,
    short_join_idle,
    start_worker,
    user,
)
