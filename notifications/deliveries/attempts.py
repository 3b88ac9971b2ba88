"""Try to send deliveries in one message: decide, store the address, send, and store what became of them.

The decision is made in the transaction that stores the address, so nothing is sent for what was seen, read, archived or
switched off before. Where a recipient has several addresses, the same transaction gives each further one a delivery of
its own, so that one that hangs holds up no other. A message is sent at least once: after a process was killed between
the answer of a server and the commit, another sends it again, with the same ``Message-ID`` or the same tag. That it may
have been sent before is stored, for the case that it is not sent again.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.core.mail import EmailMultiAlternatives
from django.db.models import QuerySet

from notifications import times, validators
from notifications.conf import settings
from notifications.db import bulk
from notifications.db.locks import lock_query
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    database,
    fair_atomic,
    retrying_atomic,
)
from notifications.db.unavailable import DATABASE_UNAVAILABLE, RETRIED_ERRORS, is_unavailable
from notifications.deliveries import pushes
from notifications.deliveries.decisions import (
    Recipient,
    find_reason,
    find_reason_of_recipient,
    read_facts,
    read_recipient,
)
from notifications.deliveries.emails import send_email
from notifications.deliveries.errors import describe_error, is_certain, is_of_dead_address, may_pass
from notifications.models import Delivery, Notification, Reader
from notifications.streams.categories import Choice

State: Any = Delivery.State
Reason: Any = Delivery.Reason

#: How often a message is tried, in four to six hours, and seconds for one try.
MAX_ATTEMPTS, TIMEOUT_SECONDS = 10, 120
#: Seconds from the first try to the second; each pause is twice as long as the one before, at most an hour.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60, 3600
#: Each pause is longer by a random part of it up to this one, so that messages that failed together do not come back
#: together.
JITTER = 0.5
MAX_ERROR_LENGTH = 500
#: Notifications that one message shows; it says how many more there are.
MAX_NEWEST = 50


class TemporaryError(Exception):
    """A message could not be sent for a reason that may pass."""

    def __init__(self, message: str, attempt: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), MAX_PAUSE_SECONDS)
        self.retry_after = max(pause, retry_after or 0) * random.uniform(1, 1 + JITTER)


class DeliveryError(Exception):
    """A message could not be sent, and its deliveries have failed. A retry of its job by hand sends it again."""


#: Options of the policies of tasks that send.
POLICY: dict[str, Any] = {
    "max_attempts": MAX_ATTEMPTS,
    "timeout": TIMEOUT_SECONDS,
    "retry_on": (TemporaryError, TimeoutError, *RETRIED_ERRORS),
    "notify": False,
}


class OpenDelivery(NamedTuple):
    """A delivery that is sent now, and its notification."""

    delivery: Delivery
    notification: Notification


class Opened(NamedTuple):
    """The deliveries that one message sends.

    ``newest``
        At most ``MAX_NEWEST`` of them, by their notifications, the newest last.
    ``ids``
        The ids of all.
    """

    newest: Sequence[OpenDelivery]
    ids: Sequence[UUID]


def send_open(
    context: Any,
    send: Callable[[Opened, Any], None],
    *,
    is_digest: bool = False,
    is_resend: bool = False,
) -> str:
    """Send those deliveries of the job that are still open in one message, and return what became of them.

    They are of one user. One that has another job meanwhile is left to that job. Many are decided in several
    transactions, those of the newest notifications, which the message shows, in the last one.

    ``context``
        The TaskContext of the job.
    ``send``
        Sends the open ones to the user. It may raise anything.
    ``is_resend``
        Staff have requested it: it is sent although the notification was seen or read, and not left to a digest.

    Raises ``TemporaryError``, with which its job is tried again, and ``DeliveryError``.
    """
    job = UUID(context.task_result.id)
    deliveries = Delivery.objects.using(database()).filter(job=job)
    user = deliveries.values_list("user_id", flat=True).first()
    recipient = None if user is None else read_recipient(user)

    newest: list[OpenDelivery] = []
    ids: list[UUID] = []
    never_attempted: list[UUID] = []
    for chunk in _chunks(deliveries.order_by("notification", "id").values_list("id", flat=True)):
        decide = partial(
            _decide, deliveries.filter(id__in=chunk), recipient, is_digest=is_digest, is_resend=is_resend
        )
        opened = fair_atomic(decide, more_follows=True)
        newest = [*newest, *opened][-MAX_NEWEST:]
        ids += [each.delivery.id for each in opened]
        never_attempted += [each.delivery.id for each in opened if each.delivery.attempted_at is None]
    if not newest or recipient is None:
        return str(State.SKIPPED)
    try:
        if not settings.SITE_URL:
            raise ConnectionError("NOTIFICATIONS['SITE_URL'] is empty, so there is no address for links.")
        send(Opened(newest, ids), recipient.user)
    except DATABASE_UNAVAILABLE:
        raise
    except pushes.DeviceGone as exc:
        _update(deliveries, never_attempted, attempted_at=None)
        end(ids, State.SKIPPED, of_job=job, reason=Reason.GONE, error=str(exc))
        return str(State.SKIPPED)
    except Exception as exc:  # templates and backends of the project raise anything
        error = _storable(describe_error(exc))
        if is_certain(exc):  # of this attempt: an earlier one may still have sent it
            _update(deliveries, never_attempted, attempted_at=None)
        if may_pass(exc):
            _store(ids, of_job=job, error=error)
            raise TemporaryError(error, context.attempt, getattr(exc, "retry_after", None)) from exc
        if is_of_dead_address(exc):
            _remember_dead_address(user, newest[0].delivery.address, error)
        fail(ids, job, error)
        raise DeliveryError(error) from exc
    end(ids, State.SENT)
    return str(State.SENT)


def _decide(
    deliveries: QuerySet[Delivery],
    recipient: Recipient | None,
    *,
    is_digest: bool = False,
    is_resend: bool = False,
) -> list[OpenDelivery]:
    """Return the deliveries that are still open, their address stored.

    The others end, or are decided anew: after a pause, or at once if the user has chosen a digest meanwhile.
    """
    # One that has failed: its job was retried by hand.
    rows = deliveries.filter(state__in=(State.QUEUED, State.FAILED))
    opened, copies = [], []
    skipped, paused, later = defaultdict(list), [], []
    locked = list(lock_query(rows.order_by("id"), skip_locked=False))
    facts = read_facts(locked)
    for row in sorted(locked, key=lambda row: row.notification):
        known = facts[row.id]
        addresses = _addresses(row, recipient) if recipient else []
        addressed = recipient and recipient._replace(address=addresses[0] if addresses else "")
        reason = find_reason(known, is_resend=is_resend) or find_reason_of_recipient(addressed, known.reader)
        if reason:
            if reason == Reason.NO_ADDRESS and row.channel == Delivery.Channel.PUSH:
                reason = Reason.NO_DEVICE
            skipped[reason].append(row.id)
        elif row.attempted_at is None and known.is_paused:
            paused.append(row)
        # One that may have been sent is sent again in the same message, which programs recognize.
        elif row.attempted_at is None and known.choice != Choice.ON and not is_digest and not is_resend:
            later.append(row.id)
        elif known.notification is not None:
            row.address, *others = addresses
            copies += [_copy_to(address, row) for address in others]
            opened.append(OpenDelivery(row, known.notification))
    for reason, ids in skipped.items():
        end(ids, State.SKIPPED, reason=reason)
    postpone_paused(paused)
    postpone(later, times.now())
    if opened:
        # Those of a digest have one address.
        ids, address = [each.delivery.id for each in opened], opened[0].delivery.address
        rows.filter(id__in=ids).update(
            state=State.QUEUED, address=address, attempted_at=times.now(), ended_at=None
        )
    bulk.insert(copies)
    return opened


def _addresses(row: Delivery, recipient: Recipient) -> list[str]:
    if row.channel == Delivery.Channel.PUSH:
        return pushes.addresses(row)
    return [recipient.address] if recipient.address else []


def _copy_to(address: str, row: Delivery) -> Delivery:
    """Return a delivery to a further address, which is due at once and gets a job of its own."""
    names = ("notification", "user_id", "channel", "language", "due_at", "delay_seconds")
    return bulk.new(Delivery, address=address, **{name: getattr(row, name) for name in names})


def send_built(build: Callable[[], EmailMultiAlternatives]) -> None:
    """Send an e-mail that ``build`` makes, which may raise anything."""
    try:
        email = build()
    except DATABASE_UNAVAILABLE:
        raise
    except Exception as exc:
        if is_unavailable(exc):
            raise ConnectionError(f"The e-mail cannot be made now: {type(exc).__name__}: {exc}") from exc
        raise ValueError(f"The e-mail cannot be made: {type(exc).__name__}: {exc}") from exc
    send_email(email)


def _remember_dead_address(user: Any, address: str, error: str) -> None:
    values = {"dead_address": address, "dead_error": _storable(error)}
    readers = Reader.objects.using(database())
    retrying_atomic(lambda: readers.update_or_create(user_id=user, defaults=values))


def postpone_paused(rows: Sequence[Delivery]) -> None:
    """Have deliveries decided anew when the pauses of their users end, in the transaction that has read these."""
    by_user: dict[Any, list[UUID]] = {}
    for row in rows:
        by_user.setdefault(row.user_id, []).append(row.id)
    for user, ids in by_user.items():
        # Locked, and read again: a request that ends the pause meanwhile finds these rows, or is found here.
        reader = lock_query(Reader.objects.using(database()).filter(user=user), skip_locked=False).first()
        postpone(ids, (reader and reader.paused_until) or times.now())


def postpone(ids: Sequence[UUID], until: datetime) -> None:
    """Have deliveries decided anew at a time."""
    if ids:
        _store(ids, error="", state=State.PENDING, due_at=until, job=None)


def end(
    ids: Sequence[UUID],
    state: str,
    *,
    of_job: UUID | None = None,
    reason: str = "",
    error: str = "",
) -> None:
    """Store how deliveries have ended; with ``of_job``, only of those that still have this job."""
    _store(ids, of_job=of_job, state=state, reason=reason, error=error, ended_at=times.now())


def fail(ids: Sequence[UUID], job: UUID, error: str) -> None:
    """Store that deliveries have failed for good, but of those that have ended or have another job meanwhile."""
    queued = Delivery.objects.using(database()).filter(state=State.QUEUED, job=job)
    failed = {"state": State.FAILED, "reason": "", "error": _storable(error), "ended_at": times.now()}
    _update(queued, ids, **failed)


def _store(ids: Sequence[UUID], *, error: str, of_job: UUID | None = None, **values: Any) -> None:
    """Store what became of deliveries, but of those that were sent, and that were deleted meanwhile.

    ``of_job``
        Only of those that still have this job.
    """
    rows = Delivery.objects.using(database()).exclude(state=State.SENT)
    if of_job is not None:
        rows = rows.filter(job=of_job)
    _update(rows, ids, error=_storable(error), **values)


def _update(rows: QuerySet[Delivery], ids: Sequence[UUID], **values: Any) -> None:
    """Update those of these rows that have one of the ids, in short transactions."""
    for chunk in _chunks(ids):
        chosen = rows.filter(id__in=chunk)
        fair_atomic(lambda chosen=chosen: chosen.update(**values))  # type: ignore[misc]


def _chunks(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ids = list(ids)
    for start in range(0, len(ids), MAX_ROWS_PER_TRANSACTION):
        yield ids[start : start + MAX_ROWS_PER_TRANSACTION]


def _storable(error: str) -> str:
    return validators.shortened(validators.printable(error), MAX_ERROR_LENGTH)
