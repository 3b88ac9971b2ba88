"""Send deliveries when they are due: a duty gives each a job, or adds it to a digest.

Those of a digest have one job together, which sends them at the end of its window. Who cannot be reached gets no job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import IntegrityError
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext

from notifications import times
from notifications.context import requester
from notifications.contrib.deliveries import digests, outages
from notifications.contrib.deliveries.attempts import (
    OPEN,
    POLICY,
    Opened,
    open_deliveries,
    record_answer,
    send_built,
    send_open,
)
from notifications.contrib.deliveries.decisions import (
    find_reason,
    find_reason_of_recipient,
    read_facts,
)
from notifications.contrib.deliveries.emails import build_email, check_site_url
from notifications.contrib.deliveries.models import Delivery, Digest, PushSubscription
from notifications.contrib.deliveries.pushes import PushRequest, make_request
from notifications.contrib.deliveries.storing import end, fail, postpone, postpone_paused
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now, database_now_sql
from notifications.db.transactions import database, fair_atomic, retrying_atomic
from notifications.db.unavailable import DATABASE_UNAVAILABLE, retry_while_unavailable
from notifications.inbox.categories import Choice
from notifications.jobs.claiming.executors import EMAIL, SENDER
from notifications.jobs.declaring.own_tasks import MAX_PER_USER, own_task, sender_queue_name
from notifications.jobs.declaring.policies import policy
from notifications.jobs.declaring.tasks import stores_jobs
from notifications.jobs.notifying import insert_jobs
from notifications.jobs.users import Recipient, read_recipient, read_recipients
from notifications.models import Job
from notifications.states import ACTIVE

logger = logging.getLogger("notifications")

State: Any = Delivery.State
Reason: Any = Delivery.Reason
#: Those that can be sent again.
ENDED = (State.SENT, State.SKIPPED, State.FAILED)

#: Seconds between two looks for deliveries that are due.
INTERVAL_SECONDS = 5.0
#: Seconds between two looks for deliveries whose job has ended without them.
ORPHAN_CHECK_INTERVAL_SECONDS = 60.0
#: Deliveries that get their jobs in one transaction.
MAX_PER_CHUNK = 50


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``enqueue_due`` finds something, and its parameters."""
    now, param = database_now_sql()
    return (
        f"EXISTS (SELECT 1 FROM {Delivery._meta.db_table} WHERE state = 'pending' AND due_at <= {now})",
        (param,),
    )


def enqueue_due() -> bool:
    """Enqueue the jobs of deliveries that are due and still open, a chunk of each channel.

    Returns whether there may be more. Called on a thread for code of the project, which the database of users is.
    """
    if not hasattr(deliver, "get_backend") or not stores_jobs(deliver.backend):
        return False
    has_more = [_enqueue_due(channel) for channel in Delivery.Channel.values]
    return any(has_more)


def _enqueue_due(channel: str) -> bool:
    places, suspended_until = MAX_PER_CHUNK, None
    outage = outages.read(channel)
    if outage and (suspended_until := outage.suspended_until):
        # The first job that begins is the next try. The others wait for its answer; digests get their members.
        places = 1 if suspended_until <= database_now() else 0
    due = Delivery.objects.using(database()).filter(
        state=State.PENDING, channel=channel, due_at__lte=database_now()
    )
    users = dict(due.order_by("due_at", "id").values_list("id", "user_id")[:MAX_PER_CHUNK])
    if not users:
        return False
    ids = list(users)
    # Before the transactions, in which no code of the project is called: an engine chooses the executor of a job.
    recipients = _find_recipients(channel, set(users.values()))
    jobs = {id: _prepare_job(channel, id, user) for id, user in users.items()}
    run_after = database_now() + digests.THROTTLE
    messages = {user: _prepare_message_job(run_after) for user in set(users.values())}
    has_more = len(ids) == MAX_PER_CHUNK

    def enqueue() -> list[digests.Member]:
        rows = list(lock_query(due.filter(id__in=ids).order_by("id")))
        facts = read_facts(rows)
        inserted: list[UUID] = []
        throttled, suspended, paused, skipped = [], [], [], defaultdict(list)
        members = []
        for row in rows:
            known = facts[row.id]
            reason = find_reason(known)
            if not reason and not row.address and row.user_id in recipients:
                reason = find_reason_of_recipient(recipients[row.user_id], known.reader, row.channel)
            if reason:
                skipped[reason].append(row.id)
            # One that may have been sent is sent again in the same message, which programs recognize.
            elif row.attempted_at is None and known.is_paused:
                paused.append(row)
            elif row.attempted_at is None and known.choice != Choice.ON:
                members.append(digests.Member(row, known.choice, known.reader))
            elif digests.is_throttled(row, known.notification):
                throttled.append(row)
            elif len(inserted) < places:
                inserted.append(row.id)
            else:
                suspended.append(row.id)
        for reason, ids_of_reason in skipped.items():
            end(ids_of_reason, State.SKIPPED, reason=reason)
        postpone_paused(paused)
        if suspended_until and suspended:
            postpone(
                suspended,
                max(suspended_until, database_now() + timedelta(seconds=outages.SUSPENSION_SECONDS)),
            )
        _insert_jobs([jobs[id] for id in inserted])
        digests.queue_deliveries({id: jobs[id].id for id in inserted})
        _insert_jobs(digests.throttle(throttled, jobs, messages))
        return members

    if members := fair_atomic(enqueue):
        prepared = digests.prepare(members, _prepare_digest_job)
        with suppress(IntegrityError):  # another process has inserted one of them: the next look finds it
            fair_atomic(lambda: _insert_jobs(digests.insert(prepared)))
    return has_more


def _find_recipients(channel: str, users: set[Any]) -> Mapping[Any, Recipient | None]:
    """Return what is known of how users (keys) are reached, without those of whom only a job can find it out."""
    try:
        recipients = read_recipients(users)
    except (
        Exception
    ) as exc:  # the project's model, perhaps in another database: it must not hold up all others
        logger.warning("Could not read the addresses of users, whose jobs will read them: %r", exc)
        return {}
    if channel == Delivery.Channel.EMAIL:
        return recipients
    rows = PushSubscription.objects.using(database()).filter(user__in=users)
    with_device = set(rows.values_list("user", flat=True).distinct())
    return {
        user: recipient and recipient._replace(address="-" if user in with_device else "")
        for user, recipient in recipients.items()
    }


def _prepare_job(channel: str, id: UUID, user: Any, **options: Any) -> Job:
    if channel == Delivery.Channel.PUSH:
        return deliver_push.get_backend().prepare(deliver_push, [str(id), str(user)], options)[0]
    return deliver.get_backend().prepare(deliver, [str(id)], options)[0]


def resend(id: UUID) -> str:
    """Enqueue a job that sends a delivery once more, although its notification was seen or read.

    Returns why it is not sent, empty if it is: a text. Raises as ``enqueue()`` does.
    """
    deliveries = Delivery.objects.using(database()).filter(id=id)
    user, channel = deliveries.values_list("user_id", "channel").first() or (None, "")
    recipient = None if user is None else read_recipient(user)
    if not hasattr(deliver, "get_backend") or not stores_jobs(deliver.backend):
        return gettext("No backend in TASKS stores jobs.")
    job = _prepare_job(channel, id, user, is_resend=True)

    def enqueue() -> str:
        row = lock_query(deliveries, skip_locked=False).first()
        if row is None:
            return str(Reason.DELETED.label)
        if row.state not in ENDED:  # its job may send it at this moment
            return gettext("It is not decided yet, or is being sent.")
        known = read_facts([row])[row.id]
        # A device is the address of a push message, and may be a new one: its job looks.
        is_push = row.channel == Delivery.Channel.PUSH
        addressed = recipient._replace(address="-") if recipient and is_push else recipient
        reason = find_reason(known, is_resend=True) or find_reason_of_recipient(
            addressed, known.reader, row.channel
        )
        if reason:
            return str(Reason(reason).label)
        if known.is_paused:
            return gettext("The user has paused everything for now.")
        row.state, row.reason, row.error = State.QUEUED, "", ""
        row.job, row.attempted_at, row.ended_at = job.id, None, None
        row.save(
            using=database(), update_fields=["state", "reason", "error", "job", "attempted_at", "ended_at"]
        )
        _insert_jobs([job])
        return ""

    return retrying_atomic(enqueue)


def _insert_jobs(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.created_at = job.queued_at = times.now()
    insert_jobs(jobs)


def _prepare_digest_job(digest: Digest) -> Job:
    task = deliver_digest.using(run_after=digest.due_at)
    return task.get_backend().prepare(task, [], {})[0]


def _prepare_message_job(run_after: datetime) -> Job:
    """Return the job of a message that deliveries may join."""
    task = deliver_digest.using(run_after=run_after)
    return task.get_backend().prepare(task, [], {"is_throttled": True})[0]


def fail_orphaned() -> bool:
    """Mark a chunk of deliveries as failed whose job has ended otherwise: after its last attempt, or by hand.

    Returns whether there may be more.
    """
    active = Job.objects.using(database()).filter(id=OuterRef("job"), state__in=ACTIVE)
    rows = Delivery.objects.using(database()).filter(state=State.QUEUED, job__isnull=False)
    orphaned = list(rows.exclude(Exists(active)).values_list("id", "job", "error")[:MAX_PER_CHUNK])
    for id, job, error in orphaned:
        fail([id], job, error or "Its job has ended before it was recorded as sent.")
    return len(orphaned) == MAX_PER_CHUNK


@own_task(queue_name=sender_queue_name, takes_context=True, executor=EMAIL)
@policy(title="Deliver a notification", **POLICY)
def deliver(context: Any, delivery: str, is_resend: bool = False) -> str:
    """Send a delivery by e-mail, which has this job, if its notification is still open. Returns its state.

    With ``is_resend`` the e-mail has a ``Message-ID`` of its own, that of the job: mail programs would hide one that
    they have already.
    """
    # A job that was enqueued when push messages had this task: the duty gives its delivery another one.
    rows = Delivery.objects.using(database()).filter(
        job=context.task_result.id, channel=Delivery.Channel.PUSH
    )
    if push_ids := list(rows.filter(state__in=OPEN).values_list("id", flat=True)):
        postpone(push_ids, times.now())
        return str(State.PENDING)

    def send(opened: Opened) -> None:
        ((found, notification),) = opened.newest
        id = opened.job if is_resend else found.id
        send_built(lambda: build_email(found, notification, opened.user, id=id))

    return send_open(context, send, is_resend=is_resend)


@own_task(queue_name=sender_queue_name, takes_context=True, executor=SENDER)
@policy(title="Deliver a push message", concurrency_key="send:{user}", concurrency=MAX_PER_USER, **POLICY)
async def deliver_push(context: Any, delivery: str, user: str, is_resend: bool = False) -> str:
    """Send a delivery to a device, which has this job, if its notification is still open. Returns its state."""
    opened, request = await sync_to_async(_open_push)(context, is_resend)
    if opened is None or request is None:
        return str(State.SKIPPED)
    answer = None
    try:
        with requester(opened.user):  # whose failing device does not keep others from their push service
            await request.send()
    except Exception as exc:
        answer = exc
    # It is recorded also if the time of the attempt is over: calls that wait for the database are in line.
    return await asyncio.shield(sync_to_async(_record_push)(opened, request, answer))


def _open_push(context: Any, is_resend: bool) -> tuple[Opened | None, PushRequest | None]:
    """Return an open delivery and the request that sends it; without one, what became of it is stored."""
    opened = open_deliveries(context, is_resend=is_resend)
    if opened is None:
        return None, None
    try:
        check_site_url()
        return opened, make_request(*opened.newest[0])
    except DATABASE_UNAVAILABLE:
        raise
    except Exception as exc:
        record_answer(opened, exc)
        return opened, None


def _record_push(opened: Opened, request: PushRequest, answer: Exception | None) -> str:
    retry_while_unavailable(lambda: request.record(answer))
    return record_answer(opened, answer)


@own_task(queue_name=sender_queue_name, takes_context=True, executor=EMAIL)
@policy(title="Deliver a digest", **POLICY)
def deliver_digest(context: Any, is_throttled: bool = False) -> str:
    """Send the deliveries of a digest, which have this job, in one e-mail if they are open. Returns their state.

    With ``is_throttled`` its user has not chosen a digest: they were due soon after one another.
    """
    job = UUID(context.task_result.id)

    def send(opened: Opened) -> None:
        send_built(lambda: digests.build_digest(job, opened, opened.user, is_throttled=is_throttled))

    digests.close(job)
    return send_open(context, send, is_digest=True)
