"""Utilities for tests of projects that use the app.

This module may be imported before the models are ready. ``notifications.pytest_plugin`` offers the same as fixtures.
"""

# Modules:
#
# inline     runs jobs on the calling thread
# job_clock  a clock that tests advance
# capture    the notifications that a test creates
# client     a client of the WebSocket, in memory

from typing import Any

from notifications.extension import moved
from notifications.testing.capture import capture_notifications
from notifications.testing.client import Client, connect
from notifications.testing.inline import run_jobs, run_until_idle
from notifications.testing.job_clock import Clock, clock

__all__ = [
    "Client",
    "Clock",
    "capture_notifications",
    "clock",
    "connect",
    "run_jobs",
    "run_until_idle",
]


def __getattr__(name: str) -> Any:
    return moved.import_from_testing(name)
