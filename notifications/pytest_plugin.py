"""Fixtures for pytest: what ``notifications.testing`` has. They are there wherever the app is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from notifications.testing import Client, Clock


@pytest.fixture
def run_jobs(db: Any) -> Callable[..., int]:
    """run_jobs() runs what is queued and due now, inline; returns how many jobs ran."""
    from notifications import testing

    return testing.run_jobs


@pytest.fixture
def run_until_idle(db: Any) -> Callable[..., int]:
    """run_until_idle() runs what is queued, also what waits for its time; returns how many jobs ran."""
    from notifications import testing

    return testing.run_until_idle


@pytest.fixture
def jobs_clock() -> Iterator[Clock]:
    """The clock by which jobs become due: jobs_clock.advance(60). It goes right again after the test."""
    from notifications.testing import clock

    yield clock
    clock.reset()


@pytest.fixture
def capture_notifications(db: Any) -> Callable[..., AbstractContextManager[list[Any]]]:
    """``with capture_notifications(user) as told:`` gives what was recorded inside the block, after it."""
    from notifications import testing

    return testing.capture_notifications


@pytest.fixture
def connect_client(transactional_db: Any) -> Iterator[Callable[[Any], Client]]:
    """connect_client(user) opens a client of the WebSocket in memory, until the end of the test."""
    from notifications.testing import connect

    with ExitStack() as clients:
        yield lambda user: clients.enter_context(connect(user))
