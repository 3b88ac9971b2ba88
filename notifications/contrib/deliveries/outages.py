"""Outages of a channel: while its server does not answer, one message at a time finds out when it does.

Messages that wait for time-outs would occupy all threads that send, and each would use up its attempts. After
``MAX_TIMEOUTS`` time-outs in a row, over all processes, the channel is suspended: deliveries stay pending without an
attempt, and once in ``SUSPENSION_SECONDS`` one message is tried. Any answer ends the outage, also one that refuses a
message.
"""

from __future__ import annotations

from datetime import timedelta

from notifications import times
from notifications.contrib.deliveries.models import ChannelOutage
from notifications.db import database, database_now, lock_query, retrying_atomic

#: Time-outs in a row after which a channel is suspended, and seconds from the last one to the next try.
MAX_TIMEOUTS, SUSPENSION_SECONDS = 3, 60
#: Seconds after which a try that has not ended, because its process was killed, is followed by another one.
MAX_TRY_SECONDS = 150


class ChannelSuspended(Exception):
    """The job of a digest waits until its channel is tried again, each time in another wait, which the text names."""

    duration = timedelta(seconds=SUSPENSION_SECONDS)

    def __init__(self, channel: str) -> None:
        super().__init__(f"{channel} is suspended at {times.now():%Y-%m-%d %H:%M:%S.%f}")


def read(channel: str) -> ChannelOutage | None:
    """Return what is known of an outage of a channel, None if the last message got an answer."""
    rows = ChannelOutage.objects.using(database()).filter(channel=channel)
    row = rows.first()
    if row is None or row.suspended_until is None:
        return row
    now = database_now()
    if row.suspended_until > times.latest_possible(now, timedelta(seconds=MAX_TRY_SECONDS)):
        # A fast clock has stored it: nothing would be sent until then.
        too_late = rows.filter(suspended_until=row.suspended_until)
        retrying_atomic(lambda: too_late.update(suspended_until=now))
        row = rows.first()
    return row


def read_all() -> dict[str, ChannelOutage]:
    """Return what is known of outages by channel."""
    return {row.channel: row for row in ChannelOutage.objects.using(database())}


def may_try(outage: ChannelOutage | None) -> bool:
    """Return whether a message may be tried. In a suspended channel, this is so for the first caller in a while."""
    if outage is None or outage.suspended_until is None:
        return True
    now = database_now()
    if outage.suspended_until > now:
        return False
    rows = ChannelOutage.objects.using(database()).filter(
        channel=outage.channel, suspended_until=outage.suspended_until
    )
    return retrying_atomic(lambda: rows.update(suspended_until=now + timedelta(seconds=MAX_TRY_SECONDS))) > 0


def add_timeout(channel: str) -> bool:
    """Store that a server has not answered in time. Return whether the channel is suspended now."""

    def write() -> bool:
        rows = ChannelOutage.objects.using(database())
        rows.bulk_create([ChannelOutage(channel=channel)], ignore_conflicts=True)
        row = lock_query(rows.filter(channel=channel), skip_locked=False).get()
        row.timeouts += 1
        if row.timeouts >= MAX_TIMEOUTS:
            row.suspended_until = database_now() + timedelta(seconds=SUSPENSION_SECONDS)
        row.save(using=database(), update_fields=["timeouts", "suspended_until"])
        return row.suspended_until is not None

    return retrying_atomic(write)


def end(outage: ChannelOutage | None) -> None:
    """Store that the server has answered."""
    if outage is not None:
        rows = ChannelOutage.objects.using(database()).filter(channel=outage.channel)
        retrying_atomic(rows.delete)
