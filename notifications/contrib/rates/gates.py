"""What outbound calls ask: see ``notifications/outbound/gates.py``."""

from notifications.contrib.rates.calls import RateGate

GATE = RateGate()
