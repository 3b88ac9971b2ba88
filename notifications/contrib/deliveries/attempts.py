"""Try to send deliveries in one message: decide, store the address, send, and store what became of them.

The decision is made in the transaction that stores the address, so nothing is sent for what was seen, read, archived or
switched off before. Where a recipient has several addresses, the same transaction gives each further one a delivery of
its own, so that one that hangs holds up no other. A message is sent at least once: after a process was killed between
the answer of a server and the commit, another sends it again, with the same id. That it may
have been sent before is stored, for the case that it is not sent again. What a server has answered is stored as soon as
the database takes it: while it is away, the attempt goes on.
"""

from __future__ import annotations

import asyncio
import random
from functools import cache, partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, NamedTuple
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db.models import QuerySet

from notifications import times
from notifications.api import apause, pause, requester
from notifications.conf import settings
from notifications.contrib.deliveries import outages
from notifications.contrib.deliveries.decisions import DeliveryOutcome, Facts, Reach, settle
from notifications.contrib.deliveries.errors import (
    is_of_making,
    is_timeout,
    judge,
    record_by_channel,
)
from notifications.contrib.deliveries.models import ChannelOutage, Delivery
from notifications.contrib.deliveries.preferences import remember_dead_address
from notifications.contrib.deliveries.storing import end, fail, postpone, reopen, storable, store, update
from notifications.db import (
    app_sync_to_async,
    catching,
    chunks,
    database,
    fair_atomic,
    insert_rows,
    lock_query,
    new_row,
    retry_while_unavailable,
)
from notifications.extension import AddressGone, Channel, ChannelMessage, hooks
from notifications.inbox import read_recipient

State: Any = Delivery.State
Reason: Any = Delivery.Reason

#: Those that a job may send; one that has failed if its job was retried by hand.
OPEN = (State.QUEUED, State.FAILED)
#: How often a message is tried, in four to six hours, and seconds for one try.
MAX_ATTEMPTS, TIMEOUT_SECONDS = 10, 120
#: Seconds for an awaited ``Channel.send()``. So its time-out is recorded before that of the attempt ends this.
SEND_TIMEOUT_SECONDS = 100
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
    "retry_on": (TemporaryError, TimeoutError),
    "notify": False,
}


class Opened(NamedTuple):
    """The deliveries that one message sends, of one user.

    ``ids``
        Their ids.
    ``never_attempted``
        The ids of those that no attempt before this one may have sent.
    ``outage``
        What is known of an outage of the channel.
    """

    channel: Channel
    message: ChannelMessage
    job: UUID
    attempt: int
    ids: list[UUID]
    never_attempted: list[UUID]
    outage: ChannelOutage | None
    is_resend: bool


def send_open(context: Any, **options: bool) -> str:
    """Send those deliveries of the job that are still open in one message, and return what became of them.

    ``context``
        The TaskContext of the job.
    ``options``
        Those of ``open_deliveries()``.

    Raises ``TemporaryError``, with which its job is tried again, ``DeliveryError``, and ``JobSuspended``.
    """
    try:
        opened = open_deliveries(context, **options)
        return str(State.SKIPPED) if opened is None else record_answer(opened, _send(opened))
    except outages.ChannelSuspended as exc:
        pause(str(exc), exc.duration)
        raise


def _send(opened: Opened) -> Exception | None:
    """Send a message, and return what the channel has raised."""
    with catching() as caught:  # templates, backends and channels of the project raise anything
        check_site_url()
        sending = opened.channel.send(opened.message)
        if isawaitable(sending):
            async_to_sync(_wait)(sending, opened.message.user)
    return caught.error


async def asend_open(context: Any, **options: bool) -> str:
    """Do what ``send_open()`` does, by a channel whose ``send()`` is async."""
    try:
        opened = await app_sync_to_async(open_deliveries)(context, **options)
        if opened is None:
            return str(State.SKIPPED)
        error = await _asend(opened)
        # It is recorded also if the time of the attempt is over: calls that wait for the database are in line.
        return await asyncio.shield(app_sync_to_async(record_answer)(opened, error))
    except outages.ChannelSuspended as exc:
        await apause(str(exc), exc.duration)
        raise


async def _asend(opened: Opened) -> Exception | None:
    with catching() as caught:
        check_site_url()
        send: Any = opened.channel.send
        if not iscoroutinefunction(send):  # It was, when the job was enqueued.
            send = sync_to_async(send)
        await _wait(send(opened.message), opened.message.user)
    return caught.error


async def _wait(sending: Any, user: Any) -> None:
    with requester(user):  # whose failing server does not keep others from theirs
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            while isawaitable(sending):
                sending = await sending


def check_site_url() -> None:
    """Raise ConnectionError if links of messages would lead nowhere."""
    if not settings.SITE_URL:
        raise ConnectionError("NOTIFICATIONS['SITE_URL'] is empty, so there is no address for links.")


def open_deliveries(
    context: Any, *, is_digest: bool = False, is_joined: bool = False, is_resend: bool = False
) -> Opened | None:
    """Return those deliveries of the job that are still open, the attempt stored; None if there are none.

    They are of one user. One that has another job meanwhile is left to that job. Many are decided in several
    transactions, those of the newest notifications, which the message shows, in the last one. While their channel is
    suspended they are left to the duty; a digest waits for it, because the next one may be a week away.

    ``is_digest``, ``is_resend``
        As in ``decide()``.
    ``is_joined``
        As in ``ChannelMessage``.

    Raises ``outages.ChannelSuspended``, and ``TemporaryError`` where the channel cannot read the addresses of the user.
    """
    job = UUID(context.task_result.id)
    deliveries = Delivery.objects.using(database()).filter(job=job)
    first = deliveries.only("user", "channel", "address").first()
    if first is None:
        return None
    channel, outage = hooks.find_channel(first.channel), outages.read(first.channel)
    if not is_resend and not outages.may_try(outage):
        if is_digest:
            raise outages.ChannelSuspended(channel.name)
        postpone(list(deliveries.filter(state__in=OPEN).values_list("id", flat=True)), times.now())
        return None
    recipient = read_recipient(first.user_id)
    with catching() as caught:  # the channel, and models of the project, raise anything
        reach = _read_reach(channel, first, recipient)
    if exc := caught.error:
        text = storable(f"Could not read the addresses by {channel.name}: {type(exc).__name__}: {exc}")
        store(list(deliveries.filter(state__in=OPEN).values_list("id", flat=True)), of_job=job, error=text)
        raise TemporaryError(text, context.attempt) from exc
    newest: list[Facts] = []
    ids: list[UUID] = []
    never_attempted: list[UUID] = []
    for chunk in chunks(deliveries.order_by("notification", "id").values_list("id", flat=True)):
        decide = partial(
            _decide, deliveries.filter(id__in=chunk), reach, is_digest=is_digest, is_resend=is_resend
        )
        opened = fair_atomic(decide, more_follows=True)
        newest = [*newest, *opened][-MAX_NEWEST:]
        ids += [facts.delivery.id for facts in opened]
        never_attempted += [facts.delivery.id for facts in opened if facts.delivery.attempted_at is None]
    if not newest or recipient is None:
        return None
    last = newest[-1].delivery
    message = ChannelMessage(
        id=job if is_digest or is_resend else last.id,
        user=recipient.user,
        address=last.address,
        language=last.language,
        notifications=[facts.notification for facts in newest if facts.notification is not None],
        count=len(ids),
        is_digest=is_digest,
        is_joined=is_joined,
    )
    return Opened(channel, message, job, context.attempt, ids, never_attempted, outage, is_resend)


def _read_reach(channel: Channel, first: Delivery, recipient: tuple[Any, bool] | None) -> Reach:
    if recipient is None:
        return Reach(exists=False)
    user, is_active = recipient
    if channel.has_many_addresses and first.address:
        return Reach(is_active=is_active)
    # What it raises is raised here: the job says why it is tried again.
    addresses: list[str] | None = channel.addresses.raising(user)  # type: ignore[attr-defined]
    if addresses is None or (len(addresses) > 1 and not channel.has_many_addresses):
        raise TypeError("It must return a list, and without has_many_addresses of one address at most.")
    return Reach(is_active=is_active, addresses=addresses)


def _decide(deliveries: QuerySet[Delivery], reach: Reach, *, is_digest: bool, is_resend: bool) -> list[Facts]:
    """Return the deliveries that are still open, their address stored.

    The others end, or are decided anew: after a pause, or at once if the user has chosen a digest meanwhile.
    """
    rows = deliveries.filter(state__in=OPEN)
    locked = lock_query(rows.order_by("id"), skip_locked=False)
    decided = settle(locked, reach.find, is_digest=is_digest, is_resend=is_resend)
    reopen([facts.delivery.id for facts in decided[DeliveryOutcome.COLLECT]])
    opened = sorted(
        (*decided[DeliveryOutcome.JOIN], *decided[DeliveryOutcome.SEND]),
        key=lambda facts: facts.delivery.notification,
    )
    copies = []
    for facts in opened:
        dead = facts.reader.dead_addresses.get(facts.channel.name)
        addresses = reach.find(facts.delivery).addresses or ()
        facts.delivery.address, *others = (each for each in addresses if each != dead)
        copies += [_copy_to(address, facts.delivery) for address in others]
    if opened:
        # Those of a digest have one address.
        ids, address = [facts.delivery.id for facts in opened], opened[0].delivery.address
        rows.filter(id__in=ids).update(
            state=State.QUEUED, address=address, attempted_at=times.now(), ended_at=None
        )
    insert_rows(copies)
    return opened


def _copy_to(address: str, row: Delivery) -> Delivery:
    """Return a delivery to a further address, which is due at once and gets a job of its own."""
    names = ("notification", "user_id", "channel", "language", "due_at", "delay_seconds")
    return new_row(Delivery, address=address, **{name: getattr(row, name) for name in names})


def record_answer(opened: Opened, error: Exception | None = None) -> str:
    """Store what became of open deliveries, and return it.

    ``error``
        What the sending has raised; None: they were sent.

    The answer of a server must not be forgotten, or the message would be sent twice: while the database is away it is
    tried again, for as long as the process lives. Others take the job only a whole lease after the database is back.

    Raises ``TemporaryError``, ``DeliveryError`` and ``outages.ChannelSuspended``.
    """
    record_of_channel = cache(partial(_record_of_channel, opened, error))  # not again, once it is stored
    return retry_while_unavailable(lambda: _record(opened, error, record_of_channel()))


def _record_of_channel(opened: Opened, error: Exception | None) -> bool:
    """Store what a channel learns, and whether its server has answered. Return whether it is suspended now."""
    record_by_channel(opened.channel, opened.message, error)
    if opened.channel.server and error is not None and is_timeout(error):
        return outages.add_timeout(opened.channel.name)
    if error is None or not is_of_making(error):
        outages.end(opened.outage)
    return False


def _record(opened: Opened, error: Exception | None, is_suspended: bool) -> str:
    channel, message, ids, job = opened.channel, opened.message, opened.ids, opened.job
    if error is None:
        end(ids, State.SENT)
        return str(State.SENT)
    deliveries = Delivery.objects.using(database()).filter(job=job)
    if isinstance(error, AddressGone):
        update(deliveries, opened.never_attempted, attempted_at=None)
        end(ids, State.SKIPPED, of_job=job, reason=Reason.GONE, error=str(error))
        return str(State.SKIPPED)
    verdict = judge(channel, error)
    text = storable(verdict.text)
    if verdict.is_certain:  # of this attempt: an earlier one may still have sent it
        update(deliveries, opened.never_attempted, attempted_at=None)
    if is_suspended and message.is_digest:
        store(ids, of_job=job, error=text)
        raise outages.ChannelSuspended(channel.name)
    if is_suspended and not opened.is_resend:  # which has its retries
        store(ids, of_job=job, error=text, state=State.PENDING, due_at=times.now(), job=None)
        return str(State.PENDING)
    if verdict.is_dead:
        remember_dead_address(message.user.pk, channel.name, message.address)
    elif verdict.may_pass:
        store(ids, of_job=job, error=text)
        raise TemporaryError(text, opened.attempt, getattr(error, "retry_after", None)) from error
    fail(ids, job, text)
    raise DeliveryError(text) from error
