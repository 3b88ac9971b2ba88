"""Why a user was told of a notification, or was not: what happened to it, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from django.utils.translation import gettext as _

from notifications.db.transactions import database
from notifications.deliveries.devices import of_user
from notifications.models import Delivery, Notification
from notifications.streams.marking_seen import seen_positions
from notifications.streams.preferences import is_muted


class Event(NamedTuple):
    """Something that happened to a notification, or is to happen.

    ``at``
        None if it is not known when.
    """

    at: datetime | None
    text: str


def timeline(row: Notification) -> list[Event]:
    """Return the events of a notification in the order of their times; those without a time come last."""
    deliveries = Delivery.objects.using(database()).filter(notification=row.pk).order_by("due_at", "id")
    names = {str(device.id): device.name for device in of_user(row.user_id)}
    events = [*_events_on_the_page(row), *(describe(delivery, names) for delivery in deliveries)]
    return sorted(events, key=lambda event: (event.at is None, event.at or row.created_at))


def _events_on_the_page(row: Notification) -> Iterator[Event]:
    yield Event(row.created_at, _("It was created."))
    if is_muted(row):
        yield Event(row.read_at, _("It was recorded as read, because the user has muted its category."))
    elif row.read_at:
        yield Event(row.read_at, _("The user read it."))
    if row.archived_at:
        yield Event(row.archived_at, _("It was archived, by the user or by a newer one with the same key."))
    if row.raised is None:
        yield Event(None, _("It has no position in the stream of the user yet."))
        return
    if row.raised <= seen_positions([row.user_id]).get(row.user_id, 0):
        yield Event(None, _("The user was shown it, in the bell or the inbox."))


def address_of(delivery: Delivery, devices: Mapping[str, str]) -> str:
    """Return the address of a delivery, or the name of its device, of those by their ids in ``devices``."""
    if delivery.channel == Delivery.Channel.PUSH:
        return devices.get(delivery.address) or _("a device that was removed since")
    return delivery.address


def describe(delivery: Delivery, devices: Mapping[str, str]) -> Event:
    """Return what became of a delivery. ``devices`` has the names of the user's devices by their ids."""
    channel = delivery.get_channel_display()
    match delivery.state:
        case Delivery.State.SENT:
            text = _("%(channel)s: sent to %(address)s.")
        case Delivery.State.SKIPPED:
            text = _("%(channel)s: not sent. %(reason)s")
            if delivery.error:
                text = _("%(channel)s: not sent. %(reason)s %(error)s")
        case Delivery.State.FAILED:
            text = _("%(channel)s: failed. %(error)s")
        case Delivery.State.QUEUED:
            text = _("%(channel)s: is to be sent by job %(job)s.")
            if delivery.error:
                text = _("%(channel)s: is to be sent by job %(job)s, whose last try failed. %(error)s")
        case _:
            text = _("%(channel)s: due, if it is still open then.")
    values = {
        "channel": channel[:1].upper() + channel[1:],
        "address": address_of(delivery, devices),
        "reason": delivery.get_reason_display(),
        "error": delivery.error,
        "job": delivery.job,
    }
    return Event(delivery.ended_at or delivery.due_at, text % values)
