"""Why a user was notified or was not: what happened to a notification, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from notifications import times
from notifications.extension import Event
from notifications.extension.installed import in_order, read_events
from notifications.models import Notification
from notifications.streams.marking_seen import Receipt, find_receipt, first_mark
from notifications.streams.positions import seen_positions


def read_timeline(row: Notification, *, for_user: bool = False, viewer: Any = None) -> list[Event]:
    """Return the events of a notification in the order of their times; those without a time come last.

    With ``for_user`` they are what its user may read: without ids of jobs, errors of servers, and what concerns others.
    ``viewer`` is the user (key) of the staff who reads them otherwise.
    """
    of_extensions = read_events(row, row.user_id if for_user else None, viewer=viewer)
    is_closed = any(event.marks_read for event in of_extensions)
    own = [] if for_user else [Event(row.created_at, _("Created."))]  # its page has the time above
    return in_order([*own, *_events_of_pages(row, is_closed=is_closed), *of_extensions])


def _events_of_pages(row: Notification, *, is_closed: bool) -> Iterator[Event]:
    if row.is_muted:
        yield Event(row.read_at, _("Recorded as read, because its category is muted."))
    elif row.read_at and not is_closed:
        yield Event(row.read_at, _("Read."))
    if row.snoozed_until:
        until = times.format_short(row.snoozed_until)
        yield Event(row.snoozed_at or row.archived_at, _("Snoozed until %(time)s") % {"time": until})
    elif row.snoozed_at:
        yield Event(row.snoozed_at, _("Snoozed."))
    if row.returned_at:
        yield Event(row.returned_at, _("Moved to the inbox again, at the end of the snooze."))
    if row.archived_at and not row.snoozed_until:
        yield Event(row.archived_at, _("Moved to Done, or replaced by a newer one with the same key."))
    if row.raised is None:
        yield Event(None, _("Not yet in the stream of the user."))
        return
    if row.raised <= seen_positions([row.user_id]).get(row.user_id, 0):
        mark = first_mark(row.user_id, row.raised)
        text = _("Shown in the bell or the inbox.")
        if mark and mark.browser:
            text = _("Shown in the bell or the inbox: %(browser)s.") % {"browser": mark.browser}
        if mark and (receipt := find_receipt(mark.receipts, row.raised)):
            yield from _events_of_receipt(receipt, mark.browser, row.raised_at)
        yield Event(mark.at if mark else None, text)


def _events_of_receipt(receipt: Receipt, browser: str, raised_at: datetime) -> Iterator[Event]:
    def milliseconds(moment: datetime) -> int:
        return max(0, (moment - times.as_utc(raised_at)) // timedelta(milliseconds=1))

    values = {"browser": browser, "milliseconds": milliseconds(receipt.received_at)}
    yield Event(receipt.received_at, _("Pushed to %(browser)s after %(milliseconds)d ms.") % values)
    if receipt.toast_at is not None:
        values["milliseconds"] = milliseconds(receipt.toast_at)
        yield Event(receipt.toast_at, _("Shown as a toast after %(milliseconds)d ms.") % values)
