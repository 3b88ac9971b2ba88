"""Decide whether a delivery that is due is sent: from the rows of its notification and its user, as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.contrib.deliveries.preferences import choice_in_force, is_paused, read_choices
from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.inbox.categories import Choice, load_categories
from notifications.jobs.users import Recipient
from notifications.models import Notification
from notifications.streams.marking_seen import seen_positions

Reason: Any = Delivery.Reason


class Facts(NamedTuple):
    """What a decision is made from.

    ``seen``
        The position up to which the user was shown the stream.
    ``choice``
        What the user has chosen for the category and the channel.
    ``now``
        The time of the database, by which deliveries are due.
    """

    notification: Notification | None
    seen: int
    choice: str
    reader: Reader
    now: datetime

    @property
    def is_paused(self) -> bool:
        """Whether the user has paused what this delivery is of."""
        category = self.notification.category if self.notification else ""
        return is_paused(self.reader, self.now) and not load_categories().get(category).is_required


def read_facts(deliveries: Iterable[Delivery]) -> dict[UUID, Facts]:
    """Return the facts of deliveries by their ids, in four queries."""
    rows = list(deliveries)
    alias, keys = database(), {row.user_id for row in rows}
    found = Notification.objects.using(alias).defer("data").in_bulk({row.notification for row in rows})
    seen, choices = seen_positions(keys), read_choices(keys)
    readers = Reader.objects.using(alias).in_bulk(keys)
    now = database_now()
    facts = {}
    for row in rows:
        notification = found.get(row.notification)
        category = notification.category if notification else ""
        facts[row.id] = Facts(
            notification,
            seen.get(row.user_id, 0),
            choice_in_force(choices, row.user_id, category, row.channel),
            readers.get(row.user_id) or Reader(user_id=row.user_id),
            now,
        )
    return facts


def find_reason(facts: Facts, *, is_resend: bool = False) -> str:
    """Return why a notification goes by no other channel any more, empty if it does.

    With ``is_resend`` it goes although it was seen or read, never although it was archived or switched off.
    """
    row = facts.notification
    if row is None:
        return Reason.DELETED
    if row.archived_at is not None:
        return Reason.ARCHIVED
    if not is_resend:
        if row.read_at is not None and not row.is_muted:
            return Reason.READ
        if row.raised is not None and row.raised <= facts.seen:
            return Reason.SEEN
    return Reason.OFF if facts.choice == Choice.OFF else ""


def find_reason_of_recipient(recipient: Recipient | None, reader: Reader, channel: str) -> str:
    """Return why a user is sent nothing by a channel, empty if they are."""
    if recipient is None:
        return Reason.DELETED
    if not recipient.is_active:
        return Reason.INACTIVE
    if not recipient.address:
        return Reason.NO_DEVICE if channel == Delivery.Channel.PUSH else Reason.NO_ADDRESS
    return Reason.DEAD_ADDRESS if recipient.address == reader.dead_address else ""
