"""Decide what becomes of deliveries: from the rows of their notifications and users, as they are now.

The duty decides when they are due, their job once more in the transaction that stores the address, a resend and the
timeline from the same facts.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from notifications import streams
from notifications.contrib.deliveries.categories import Choice, find_category
from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.contrib.deliveries.preferences import choice_in_force, is_paused, read_choices
from notifications.contrib.deliveries.quiet_hours import quiet_until
from notifications.contrib.deliveries.storing import end, postpone_paused
from notifications.db import database, database_now
from notifications.extension import Channel, hooks
from notifications.inbox import ALERTS
from notifications.models import Notification, Wait

State: Any = Delivery.State
Reason: Any = Delivery.Reason


class DeliveryOutcome(enum.Enum):
    """What becomes of a delivery."""

    #: It is not sent.
    SKIP = enum.auto()
    #: Its user has paused, or has quiet hours and the channel no digests: it is decided anew at the end.
    WAIT = enum.auto()
    #: It goes into the digest that its user has chosen, or that of the end of quiet hours.
    COLLECT = enum.auto()
    #: It joins a message, if it is due soon after another one.
    JOIN = enum.auto()
    #: It is sent by itself.
    SEND = enum.auto()


class Decision(NamedTuple):
    """What becomes of a delivery, and the reason if it is not sent."""

    outcome: DeliveryOutcome
    reason: str = ""


class Reach(NamedTuple):
    """What is known of how a user is reached by a channel. ``addresses`` are None if they are not known."""

    exists: bool = True
    is_active: bool = True
    addresses: Sequence[str] | None = None

    def find(self, delivery: Delivery) -> Reach:
        """Return what is known of how a delivery is sent: of several addresses, it keeps its own."""
        keeps = hooks.find_channel(delivery.channel).has_many_addresses and delivery.address
        return self._replace(addresses=[delivery.address]) if keeps else self


#: That of users who were not read.
UNKNOWN_REACH = Reach()


class Facts(NamedTuple):
    """What a decision is made from.

    ``seen``
        The position up to which the user was shown the stream.
    ``choice``
        What the user has chosen for the category and the channel.
    ``now``
        The time of the database, by which deliveries are due.
    ``answer_by``
        When the open question of the notification expires; None: it has none, or does not expire.
    """

    delivery: Delivery
    channel: Channel
    notification: Notification | None
    category: Any
    seen: int
    choice: str
    reader: Reader
    now: datetime
    answer_by: datetime | None = None


def read_facts(deliveries: Iterable[Delivery]) -> list[Facts]:
    """Return the facts of deliveries, in four queries, five with open questions."""
    rows = list(deliveries)
    alias, keys = database(), {row.user_id for row in rows}
    found = Notification.objects.using(alias).defer("data").in_bulk({row.notification for row in rows})
    seen, choices = streams.seen_positions(keys), read_choices(keys)
    readers = Reader.objects.using(alias).in_bulk(keys)
    questions = {row.open_question for row in found.values() if row.open_question}
    deadlines = (
        dict(Wait.objects.using(alias).filter(id__in=questions).values_list("id", "due_at"))
        if questions
        else {}
    )
    now = database_now()
    facts = []
    for row in rows:
        notification = found.get(row.notification)
        category = find_category(notification.category if notification else "")
        facts.append(
            Facts(
                row,
                hooks.find_channel(row.channel),
                notification,
                category,
                seen.get(row.user_id, 0),
                choice_in_force(choices, row.user_id, category.key, row.channel),
                readers.get(row.user_id) or Reader(user_id=row.user_id),
                now,
                deadlines.get(notification.open_question) if notification else None,
            )
        )
    return facts


def decide(
    facts: Facts, reach: Reach = UNKNOWN_REACH, *, is_digest: bool = False, is_resend: bool = False
) -> Decision:
    """Decide about a delivery.

    ``is_digest``
        It is in a digest already, or in a message that several have joined.
    ``is_resend``
        Staff have requested it: it is sent although the notification was seen or read, and not left to a digest, but
        never although the notification was archived or its category switched off.
    """
    if reason := _find_reason(facts, is_resend=is_resend) or _find_reason_of_recipient(facts, reach):
        return Decision(DeliveryOutcome.SKIP, reason)
    if facts.delivery.attempted_at is not None:
        # One that may have been sent is sent again in the same message, which programs recognize.
        return Decision(DeliveryOutcome.SEND)
    if is_paused(facts.reader, facts.now) and not facts.category.is_required:
        return Decision(DeliveryOutcome.WAIT)
    if find_quiet_end(facts) is not None:
        return Decision(
            DeliveryOutcome.COLLECT if facts.channel.has_digests and not is_resend else DeliveryOutcome.WAIT
        )
    if not facts.channel.has_digests or is_digest or is_resend:
        return Decision(DeliveryOutcome.SEND)
    if facts.choice != Choice.ON:
        return Decision(DeliveryOutcome.COLLECT)
    return Decision(DeliveryOutcome.JOIN if _may_join(facts) else DeliveryOutcome.SEND)


def find_quiet_end(facts: Facts) -> datetime | None:
    """Return the end of the quiet hours that hold a delivery back, None if none do.

    What is required goes through, alerts do, and questions that expire before they could be answered.
    """
    until = quiet_until(facts.reader, facts.now)
    if until is None or facts.category.is_required or facts.category.key == ALERTS:
        return None
    return None if facts.answer_by is not None and facts.answer_by <= until else until


def _find_reason(facts: Facts, *, is_resend: bool) -> str:
    row = facts.notification
    if facts.delivery.channel not in hooks.channels:
        return Reason.NOT_INSTALLED
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


def _find_reason_of_recipient(facts: Facts, reach: Reach) -> str:
    if not reach.exists:
        return Reason.DELETED
    if not reach.is_active:
        return Reason.INACTIVE
    if reach.addresses is None:
        return ""
    if not reach.addresses:
        return Reason.NO_ADDRESS
    dead_address = facts.reader.dead_addresses.get(facts.channel.name)
    return Reason.DEAD_ADDRESS if list(reach.addresses) == [dead_address] else ""


def _may_join(facts: Facts) -> bool:
    """Return whether a delivery joins a message if it is due soon after another one.

    A question waits for its answer, an alert for an operator, and the steps of one call are what the project wants.
    """
    row = facts.notification
    return (
        not facts.delivery.is_explicit
        and (row is None or row.open_question is None)
        and facts.category.key != ALERTS
    )


def settle(
    deliveries: Iterable[Delivery], reach_of: Callable[[Delivery], Reach], **options: bool
) -> dict[DeliveryOutcome, list[Facts]]:
    """Decide about deliveries that this transaction has locked. Returns those that are sent, by what becomes of them.

    Those that are not sent end, and those of users who have paused, or have quiet hours, are postponed.

    ``options``
        Those of ``decide()``.
    """
    decided: dict[DeliveryOutcome, list[Facts]] = defaultdict(list)
    skipped = defaultdict(list)
    for facts in read_facts(deliveries):
        outcome, reason = decide(facts, reach_of(facts.delivery), **options)
        if outcome is DeliveryOutcome.SKIP:
            skipped[reason].append(facts.delivery.id)
        else:
            decided[outcome].append(facts)
    for reason, ids in skipped.items():
        end(ids, State.SKIPPED, reason=reason)
    postpone_paused([facts.delivery for facts in decided.pop(DeliveryOutcome.WAIT, ())])
    return decided
