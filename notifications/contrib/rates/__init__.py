"""Rates: how many starts or calls a minute one partner takes. ``apps.py`` says what belongs to it."""

from notifications.contrib.rates.api import RateExceeded, charge, rate

__all__ = ["RateExceeded", "charge", "rate"]
