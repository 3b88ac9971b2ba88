"""The limits of ``NOTIFICATIONS["ALERTS"]``."""

from __future__ import annotations

from dataclasses import dataclass

from notifications.conf import settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits in seconds, ``failure_rate`` as a share of 1. None turns an alert off.

    ``interval``
        Between two evaluations; None turns all alerts off.
    ``stalled``
        For which a queue with running jobs may finish none while others wait, or while one is over its timeout.
    ``wait``
        For which a due job of a queue that is not paused may wait.
    ``failure_rate``, ``min_failures``
        The share of jobs of a queue that may fail within ``window``; fewer failures than ``min_failures`` never count.
    ``no_worker``
        For which no worker may be alive.
    ``window``
        The time that failures are counted over, and after which a lost worker or a missed tick is over.
    ``clear``
        For which a condition must have been absent before its alert is over.
    """

    interval: float | None = 15
    stalled: float | None = 300
    wait: float | None = 300
    failure_rate: float | None = 0.5
    min_failures: int = 20
    no_worker: float | None = 60
    window: float = 300
    clear: float = 60


def read_limits() -> Limits:
    """Return the limits of the settings. Raises ``ImproperlyConfigured`` for a wrong one."""
    return Limits(**settings.ALERTS)
