"""Fixtures for a running worker."""

import pytest

from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def short_intervals(monkeypatch):
    """Run the loops of workers ten times a second."""
    for name in (
        "running_jobs.CANCEL_POLL_INTERVAL_SECONDS",
        "running_jobs.CLAIM_CHECK_INTERVAL_SECONDS",
        "claim_loop.POLL_INTERVAL_SECONDS",
        "loops.RETRY_INTERVAL_SECONDS",
        "maintenance.ROUND_INTERVAL_SECONDS",
    ):
        monkeypatch.setattr(f"notifications.worker.{name}", 0.1)
