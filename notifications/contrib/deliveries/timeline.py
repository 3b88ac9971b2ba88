"""What became of the deliveries of a notification, in words, from the rows alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Right
from django.utils.translation import gettext as _

from notifications.contrib.deliveries.attempts import DeliveryError
from notifications.contrib.deliveries.decisions import decide, find_quiet_end, read_facts
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.deliveries.rules import REASONS_OF_NOTIFICATION
from notifications.db import database
from notifications.extension import Event, hooks
from notifications.models import Attempt, Job, Notification

#: The module of the errors whose texts are the answers of servers.
ERRORS_MODULE = DeliveryError.__module__
#: The states of what quiet hours may hold back.
WAITING = (Delivery.State.PENDING, Delivery.State.QUEUED)
#: Attempts that are shown, the first.
MAX_ATTEMPTS_SHOWN = 200
#: Characters at the end of a traceback that are read: more than its last line has.
MAX_END_CHARS = 1_000


def read_deliveries_of(row: Job | Notification, reader: Any) -> list[Event]:
    """Return the events of the deliveries of a notification, in their order, none of a job.

    With a ``reader`` they are what its user may read: without ids of jobs, the errors of servers, and times of
    deliveries that are to come.
    """
    if not isinstance(row, Notification):
        return []
    for_user = reader is not None
    deliveries = list(Delivery.objects.using(database()).filter(notification=row.pk).order_by("due_at", "id"))
    waiting = [delivery for delivery in deliveries if delivery.state in WAITING and not delivery.attempted_at]
    quiet_ends: dict[UUID, datetime] = {}
    for facts in read_facts(waiting) if waiting else ():
        found, delivery = facts.notification, facts.delivery
        if until := find_quiet_end(facts._replace(now=max(facts.now, delivery.due_at))):
            quiet_ends[delivery.id] = until
        if not for_user or delivery.state != Delivery.State.PENDING:
            continue
        if found and found.snoozed_until:
            found.archived_at = found.read_at = found.raised = (
                None  # It is raised again as new, and sent then.
            )
        if reason := decide(facts).reason:  # As it will be decided when it is due.
            delivery.state, delivery.reason = Delivery.State.SKIPPED, reason
    if for_user:  # who has chosen no device or address knows it
        deliveries = [
            delivery
            for delivery in deliveries
            if (delivery.state, delivery.reason) != (Delivery.State.SKIPPED, "no-address")
        ]
    failed = {} if for_user else _read_failed_attempts(deliveries)
    addresses = describe_addresses(deliveries)
    events: list[Event] = []
    for delivery in deliveries:
        if row.snoozed_until and delivery.reason in REASONS_OF_NOTIFICATION and not delivery.may_have_arrived:
            delivery.state = Delivery.State.PENDING  # It will be, when the notification is raised again.
            delivery.ended_at = None
            delivery.due_at = row.snoozed_until + timedelta(seconds=delivery.delay_seconds)
        events += describe(delivery, addresses[delivery.id], for_user, quiet_ends.get(delivery.id))
        events += _describe_failed_attempts(delivery, failed.get(delivery.job, []))
    return events


def _read_failed_attempts(deliveries: Iterable[Delivery]) -> dict[UUID | None, list[Attempt]]:
    """Return the attempts of the jobs of deliveries that have sent nothing, each with the end of its traceback."""
    found = defaultdict(list)
    if jobs := {delivery.job for delivery in deliveries if delivery.job}:
        rows = Attempt.objects.using(database()).filter(job__in=jobs).defer("traceback")
        rows = rows.annotate(end=Right("traceback", MAX_END_CHARS))
        for attempt in rows.order_by("number", "id")[:MAX_ATTEMPTS_SHOWN]:
            found[attempt.job_id].append(attempt)
    return found


def _describe_failed_attempts(delivery: Delivery, attempts: Sequence[Attempt]) -> Iterator[Event]:
    for attempt in attempts:
        answer = str(attempt.get_outcome_display())
        if attempt.exception_class_path.startswith(ERRORS_MODULE):  # its text is the answer of the server
            answer = attempt.end.strip().rpartition("\n")[2].partition(": ")[2]
        if delivery.state == Delivery.State.FAILED and attempt is attempts[-1] and answer == delivery.error:
            continue  # described by the end of the delivery
        values = {"channel": _channel_of(delivery), "number": attempt.number, "answer": answer}
        yield Event(attempt.ended_at, _("%(channel)s: attempt %(number)d failed. %(answer)s") % values)


def _channel_of(delivery: Delivery) -> str:
    channel = delivery.describe_channel()
    return channel[:1].upper() + channel[1:]


def describe_addresses(deliveries: Iterable[Delivery]) -> dict[UUID, str]:
    """Return the addresses of deliveries of one notification by their ids, as people read them."""
    by_channel = defaultdict(list)
    for delivery in deliveries:
        by_channel[delivery.channel].append(delivery)
    described: dict[UUID, str] = {}
    for name, rows in by_channel.items():
        addresses = {row.address for row in rows if row.address}
        found = hooks.find_channel(name).describe_addresses(rows[0].user_id, addresses) if addresses else {}
        described |= {row.id: found.get(row.address, row.address) for row in rows}
    return described


def describe(
    delivery: Delivery, address: str, for_user: bool, quiet_end: datetime | None = None
) -> list[Event]:
    """Return the events of a delivery.

    ``quiet_end``
        The end of the quiet hours for which it waits, if it does.
    """
    error = "" if for_user else delivery.error
    match delivery.state:
        case Delivery.State.SENT:
            text = _("%(channel)s: sent to %(address)s.")
        case Delivery.State.SKIPPED if delivery.may_have_arrived:
            text = _("%(channel)s: not sent again. %(reason)s")
        case Delivery.State.SKIPPED:
            text = _("%(channel)s: not sent. %(reason)s")
            if error:
                text = _("%(channel)s: not sent. %(reason)s %(error)s")
        case Delivery.State.FAILED if for_user:
            text = _("%(channel)s: could not be sent.")
        case Delivery.State.FAILED:
            text = _("%(channel)s: failed. %(error)s")
        case Delivery.State.PENDING | Delivery.State.QUEUED if quiet_end and for_user:
            text = _("%(channel)s: will be sent after your quiet hours, unless you see or read this before.")
        case Delivery.State.PENDING | Delivery.State.QUEUED if quiet_end:
            text = _(
                "%(channel)s: waits for the end of the quiet hours of the user, if it is still open then."
            )
        case Delivery.State.QUEUED if for_user:
            text = _("%(channel)s: is being sent.")
        case Delivery.State.QUEUED:
            text = _("%(channel)s: is to be sent by job %(job)s.")
        case _ if for_user:
            text = _("%(channel)s: will be sent later, unless you see or read this before.")
        case _:
            text = _("%(channel)s: due, if it is still open then.")
    values = {
        "channel": _channel_of(delivery),
        "address": address,
        "reason": delivery.describe_reason(),
        "error": error,
        "job": delivery.job,
    }
    at = delivery.ended_at or (None if for_user else quiet_end or delivery.due_at)
    events = [Event(at, text % values)]
    if delivery.may_have_arrived:
        text = _("%(channel)s: may have been sent to %(address)s. The attempt was interrupted.")
        events.insert(0, Event(delivery.attempted_at, text % values))
    return events
