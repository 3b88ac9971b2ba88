"""Fixtures of the folders whose parts these tests use."""

import pytest

from tests.http.conftest import asgi, user_client  # noqa: F401 (fixtures)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def set_max_output(monkeypatch):
    """set_max_output(bytes) bounds what is stored of the output of a job."""
    return lambda size: monkeypatch.setattr("notifications.contrib.output.storage.MAX_OUTPUT_BYTES", size)


@pytest.fixture
def many_pieces(monkeypatch, set_belongings):
    """Output is stored in chunks of four bytes, of which ten are deleted at once."""
    monkeypatch.setattr("notifications.contrib.output.storage.MAX_CHUNK_BYTES", 4)
    set_belongings(10)


@pytest.fixture
def small_parts(monkeypatch):
    """Readers get 10 kB at once."""
    monkeypatch.setattr("notifications.contrib.output.reading.MAX_PART_BYTES", 10_000)
