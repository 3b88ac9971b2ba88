"""Fixtures of deliveries."""

from tests.contrib.deliveries.conftest import *  # noqa: F403 (fixtures)
