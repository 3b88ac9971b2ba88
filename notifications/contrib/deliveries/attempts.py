"""Try to send deliveries in one message: decide, store the address, send, and store what became of them.

The decision is made in the transaction that stores the address, so nothing is sent for what was seen, read, archived or
switched off before. Where a recipient has several addresses, the same transaction gives each further one a delivery of
its own, so that one that hangs holds up no other. A message is sent at least once: after a process was killed between
the answer of a server and the commit, another sends it again, with the same ``Message-ID`` or the same tag. That it may
have been sent before is stored, for the case that it is not sent again. What a server has answered is stored as soon as
the database takes it: while it is away, the attempt goes on.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.core.mail import EmailMultiAlternatives
from django.db.models import QuerySet

from notifications import times
from notifications.contrib.deliveries import devices, outages
from notifications.contrib.deliveries.decisions import (
    find_reason,
    find_reason_of_recipient,
    read_facts,
)
from notifications.contrib.deliveries.emails import check_site_url, send_email
from notifications.contrib.deliveries.errors import (
    DeviceGone,
    describe_error,
    is_certain,
    is_of_dead_address,
    is_of_making,
    is_timeout,
    may_pass,
)
from notifications.contrib.deliveries.models import ChannelOutage, Delivery
from notifications.contrib.deliveries.storing import (
    chunks,
    end,
    fail,
    postpone,
    postpone_paused,
    remember_dead_address,
    storable,
    store,
    update,
)
from notifications.db import bulk
from notifications.db.bulk import lock_query
from notifications.db.transactions import (
    database,
    fair_atomic,
)
from notifications.db.unavailable import (
    DATABASE_UNAVAILABLE,
    RETRIED_ERRORS,
    is_unavailable,
    retry_while_unavailable,
)
from notifications.inbox.categories import Choice
from notifications.jobs.durable_calls import pause
from notifications.jobs.users import Recipient, read_recipient
from notifications.models import Notification

State: Any = Delivery.State
Reason: Any = Delivery.Reason

#: Those that a job may send; one that has failed if its job was retried by hand.
OPEN = (State.QUEUED, State.FAILED)
#: How often a message is tried, in four to six hours, and seconds for one try.
MAX_ATTEMPTS, TIMEOUT_SECONDS = 10, 120
#: Seconds from the first try to the second; each pause is twice as long as the one before, at most an hour.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60, 3600
#: Each pause is longer by a random part of it up to this one, so that messages that failed together do not come back
#: together.
JITTER = 0.5
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
    """The deliveries that one message sends, of one user.

    ``newest``
        At most ``MAX_NEWEST`` of them, by their notifications, the newest last.
    ``ids``
        The ids of all.
    ``user``
        The user, an instance of the project's model.
    ``job``, ``attempt``
        The id of their job, and the number of its attempt.
    ``never_attempted``
        The ids of those that no attempt before this one may have sent.
    ``outage``
        What is known of an outage of the channel.
    ``is_digest``, ``is_resend``
        As in ``send_open()``.
    """

    newest: Sequence[OpenDelivery]
    ids: Sequence[UUID]
    user: Any
    job: UUID
    attempt: int
    never_attempted: Sequence[UUID]
    outage: ChannelOutage | None
    is_digest: bool
    is_resend: bool


def send_open(
    context: Any,
    send: Callable[[Opened], None],
    *,
    is_digest: bool = False,
    is_resend: bool = False,
) -> str:
    """Send those deliveries of the job that are still open in one message, and return what became of them.

    ``context``
        The TaskContext of the job.
    ``send``
        Sends the open ones to their user. It may raise anything.
    ``is_digest``
        It is a digest, or a message that several have joined.
    ``is_resend``
        Staff have requested it: it is sent although the notification was seen or read, and not left to a digest.

    Raises ``TemporaryError``, with which its job is tried again, and ``DeliveryError``.
    """
    opened = open_deliveries(context, is_digest=is_digest, is_resend=is_resend)
    if not opened:
        return str(State.SKIPPED)
    try:
        check_site_url()
        send(opened)
    except DATABASE_UNAVAILABLE:  # before anything was sent
        raise
    except Exception as exc:  # templates and backends of the project raise anything
        return record_answer(opened, exc)
    return record_answer(opened)


def _pause() -> None:
    """Suspend the job, without counting the attempt, each time in another wait of it. Raises ``JobSuspended``."""
    pause(
        f"e-mail is suspended at {times.now():%Y-%m-%d %H:%M:%S.%f}",
        timedelta(seconds=outages.SUSPENSION_SECONDS),
    )


def open_deliveries(context: Any, *, is_digest: bool = False, is_resend: bool = False) -> Opened | None:
    """Return those deliveries of the job that are still open, the attempt stored; None if there are none.

    They are of one user. One that has another job meanwhile is left to that job. Many are decided in several
    transactions, those of the newest notifications, which the message shows, in the last one. While their channel is
    suspended they are left to the duty; a digest waits for it, because the next one may be a week away.

    Raises ``JobSuspended``.
    """
    job = UUID(context.task_result.id)
    deliveries = Delivery.objects.using(database()).filter(job=job)
    first = deliveries.only("user", "channel").first()
    if first is None:
        return None
    outage = outages.read(first.channel)
    if not is_resend and not outages.may_try(outage):
        if is_digest:
            _pause()
        postpone(list(deliveries.filter(state__in=OPEN).values_list("id", flat=True)), times.now())
        return None
    recipient = read_recipient(first.user_id)

    newest: list[OpenDelivery] = []
    ids: list[UUID] = []
    never_attempted: list[UUID] = []
    for chunk in chunks(deliveries.order_by("notification", "id").values_list("id", flat=True)):
        decide = partial(
            _decide, deliveries.filter(id__in=chunk), recipient, is_digest=is_digest, is_resend=is_resend
        )
        opened = fair_atomic(decide, more_follows=True)
        newest = [*newest, *opened][-MAX_NEWEST:]
        ids += [each.delivery.id for each in opened]
        never_attempted += [each.delivery.id for each in opened if each.delivery.attempted_at is None]
    if not newest or recipient is None:
        return None
    return Opened(
        newest, ids, recipient.user, job, context.attempt, never_attempted, outage, is_digest, is_resend
    )


def record_answer(opened: Opened, exc: Exception | None = None) -> str:
    """Store what became of open deliveries, and return it.

    ``exc``
        What the sending has raised; None: they were sent.

    The answer of a server must not be forgotten, or the message would be sent twice: while the database is away it is
    tried again, for as long as the process lives. Others take the job only a whole lease after the database is back.

    Raises ``TemporaryError`` and ``DeliveryError``.
    """
    is_suspended = retry_while_unavailable(partial(_record_outage, opened, exc))
    return retry_while_unavailable(partial(_record, opened, exc, is_suspended))


def _record_outage(opened: Opened, exc: Exception | None) -> bool:
    """Store whether the server has answered. Return whether its channel is suspended now."""
    channel = opened.newest[-1].delivery.channel
    if channel == Delivery.Channel.EMAIL and exc is not None and is_timeout(exc):
        return outages.add_timeout(channel)
    if exc is None or not is_of_making(exc):
        outages.end(opened.outage)
    return False


def _record(opened: Opened, exc: Exception | None, is_suspended: bool) -> str:
    ids, job = opened.ids, opened.job
    if exc is None:
        end(ids, State.SENT)
        return str(State.SENT)
    deliveries = Delivery.objects.using(database()).filter(job=job)
    if isinstance(exc, DeviceGone):
        update(deliveries, opened.never_attempted, attempted_at=None)
        end(ids, State.SKIPPED, of_job=job, reason=Reason.GONE, error=str(exc))
        return str(State.SKIPPED)
    error = storable(describe_error(exc))
    if is_certain(exc):  # of this attempt: an earlier one may still have sent it
        update(deliveries, opened.never_attempted, attempted_at=None)
    if is_suspended and opened.is_digest:
        store(ids, of_job=job, error=error)
        _pause()
    if is_suspended and not opened.is_resend:  # which has its retries
        store(ids, of_job=job, error=error, state=State.PENDING, due_at=times.now(), job=None)
        return str(State.PENDING)
    if may_pass(exc):
        store(ids, of_job=job, error=error)
        raise TemporaryError(error, opened.attempt, getattr(exc, "retry_after", None)) from exc
    if is_of_dead_address(exc):
        delivery = opened.newest[0].delivery
        remember_dead_address(delivery.user_id, delivery.address, error)
    fail(ids, job, error)
    raise DeliveryError(error) from exc


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
    rows = deliveries.filter(state__in=OPEN)
    opened, copies = [], []
    skipped, paused, later = defaultdict(list), [], []
    locked = list(lock_query(rows.order_by("id"), skip_locked=False))
    facts = read_facts(locked)
    for row in sorted(locked, key=lambda row: row.notification):
        known = facts[row.id]
        addresses = _addresses(row, recipient) if recipient else []
        addressed = recipient and recipient._replace(address=addresses[0] if addresses else "")
        reason = find_reason(known, is_resend=is_resend) or find_reason_of_recipient(
            addressed, known.reader, row.channel
        )
        if reason:
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
        return [row.address] if row.address else [str(each.id) for each in devices.of_user(row.user_id)]
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
