"""Fixtures for tests of transitions."""

import pytest

from notifications.jobs.transitions import handing_over


@pytest.fixture
def without_jitter(monkeypatch):
    """Each interval is as long as its mean."""
    monkeypatch.setattr(handing_over, "JITTER", 0)


@pytest.fixture
def other_engine(settings):
    """A second backend with an engine of its own."""
    settings.TASKS = {**settings.TASKS, "other": settings.TASKS["default"]}
