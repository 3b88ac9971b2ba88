"""Decide whether a delivery that is due is sent: from the rows of its notification, as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import router
from django.db.models import QuerySet

from notifications.db.transactions import database
from notifications.models import Delivery, MutedCategory, Notification
from notifications.streams.marking_seen import seen_positions

Reason: Any = Delivery.Reason


class Recipient(NamedTuple):
    """A user, and what a decision needs of it. ``address`` is empty if there is none or it is not valid."""

    user: Any
    is_active: bool
    address: str


class Facts(NamedTuple):
    """What a decision is made from.

    ``seen``
        The position up to which the user was shown the stream.
    """

    notification: Notification | None
    seen: int
    is_muted: bool


def read_recipient(user: Any) -> Recipient | None:
    """Return the recipient for the key of a user, None if it does not exist.

    Outside of a transaction: the model is the project's, and may be in another database.
    """
    model: Any = get_user_model()
    # Not by a manager of the project, which may hide users, and not from a replica, which may not have a new one.
    found = QuerySet(model, using=router.db_for_write(model)).filter(pk=user).first()
    if found is None:
        return None
    address = getattr(found, getattr(model, "EMAIL_FIELD", "email"), None)
    try:
        validate_email(address)
    except (ValidationError, TypeError):
        address = ""
    return Recipient(found, bool(getattr(found, "is_active", True)), str(address))


def read_facts(deliveries: Iterable[Delivery]) -> dict[UUID, Facts]:
    """Return the facts of deliveries by their ids, in three queries."""
    rows = list(deliveries)
    alias, keys = database(), {row.user_id for row in rows}
    found = Notification.objects.using(alias).defer("data").in_bulk({row.notification for row in rows})
    seen = seen_positions(keys)
    muted = set(MutedCategory.objects.using(alias).filter(user__in=keys).values_list("user_id", "category"))
    facts = {}
    for row in rows:
        notification = found.get(row.notification)
        is_muted = notification is not None and (row.user_id, notification.category) in muted
        facts[row.id] = Facts(notification, seen.get(row.user_id, 0), is_muted)
    return facts


def find_reason(facts: Facts) -> str:
    """Return why a notification goes by no other channel any more, empty if it does."""
    row = facts.notification
    if row is None:
        return Reason.DELETED
    if row.archived_at is not None:
        return Reason.ARCHIVED
    if row.read_at is not None:
        return Reason.READ
    if row.raised is not None and row.raised <= facts.seen:
        return Reason.SEEN
    return Reason.MUTED if facts.is_muted else ""


def find_reason_of_recipient(recipient: Recipient | None) -> str:
    """Return why a user is sent nothing, empty if they are."""
    if recipient is None:
        return Reason.DELETED
    if not recipient.is_active:
        return Reason.INACTIVE
    return "" if recipient.address else Reason.NO_ADDRESS
