"""Fixtures for a running worker."""

import pytest

from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def short_intervals(set_bounds):
    """Run the loops of workers ten times a second."""
    set_bounds(polls=0.1)
