"""Fixtures for pytest: the utilities of ``notifications.testing``. pytest loads them where the app is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from notifications.testing import Client, Clock


@pytest.fixture
def run_jobs(db: Any) -> Callable[..., int]:
    """run_jobs() runs the queued jobs that are due, inline, and returns how many ran."""
    from notifications import testing

    return testing.run_jobs


@pytest.fixture
def run_until_idle(db: Any) -> Callable[..., int]:
    """run_until_idle() also advances the clock to delayed jobs and retries. It returns how many jobs ran."""
    from notifications import testing

    return testing.run_until_idle


@pytest.fixture
def send_deliveries(db: Any) -> Callable[..., int]:
    """send_deliveries() sends what waits by e-mail and push, inline, and returns how many were sent."""
    from notifications import testing

    sender: Callable[..., int] = testing.send_deliveries
    return sender


@pytest.fixture
def jobs_clock() -> Iterator[Clock]:
    """The clock by which jobs become due: jobs_clock.advance(60). It is reset after the test."""
    from notifications.testing import clock

    yield clock
    clock.reset()


@pytest.fixture
def capture_notifications(db: Any) -> Callable[..., AbstractContextManager[list[Any]]]:
    """After ``with capture_notifications(user) as notifications:`` the list has those that the block created."""
    from notifications import testing

    return testing.capture_notifications


@pytest.fixture
def connect_client(transactional_db: Any) -> Iterator[Callable[[Any], Client]]:
    """connect_client(user) opens a client of the WebSocket in memory and closes it after the test."""
    from notifications.testing import connect

    with ExitStack() as clients:
        yield lambda user: clients.enter_context(connect(user))
