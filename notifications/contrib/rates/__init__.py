"""Rates: how many starts or calls a minute one partner takes. ``apps.py`` says what belongs to it."""

from typing import TYPE_CHECKING

from notifications.contrib.rates.api import charge, rate
from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.contrib.rates.calls import RateExceeded
else:  # Processes without outbound calls do not load aiohttp.
    __getattr__ = export_lazily(__name__, {"notifications.contrib.rates.calls": "RateExceeded"})

__all__ = ["RateExceeded", "charge", "rate"]
