"""Processes whose deliveries are looked for and retried quickly, and whose hourly digests end every few seconds."""

from datetime import UTC, datetime, timedelta

from tests.support.bounds import set_bounds

WINDOW_SECONDS = 4


def change():
    from notifications.contrib.deliveries import digests
    from notifications.contrib.webhooks import sending as webhooks

    set_bounds(setattr, deliveries=0.2)
    webhooks.PAUSES_SECONDS = (0.2,) * len(webhooks.PAUSES_SECONDS)
    digests.window_end = window_end
    digests.THROTTLE = timedelta(0)  # each e-mail by itself, which the ledger compares


def window_end(choice, reader, after):
    return datetime.fromtimestamp((after.timestamp() // WINDOW_SECONDS + 1) * WINDOW_SECONDS, UTC)
