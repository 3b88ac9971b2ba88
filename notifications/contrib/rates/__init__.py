"""Rates: how many starts or calls a minute one partner takes. ``apps.py`` says what belongs to it."""

from typing import TYPE_CHECKING, Any

from notifications.contrib.rates.api import charge, rate

if TYPE_CHECKING:
    from notifications.contrib.rates.calls import RateExceeded

__all__ = ["RateExceeded", "charge", "rate"]


def __getattr__(name: str) -> Any:
    """Import the error when it is first used: processes without outbound calls do not load aiohttp."""
    if name != "RateExceeded":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from notifications.contrib.rates.calls import RateExceeded

    return RateExceeded
