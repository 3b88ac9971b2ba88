"""Send deliveries when they are due: a duty gives each a job, or adds it to a digest.

Those of a digest have one job together, which sends them at the end of its window. Who cannot be reached gets no job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from inspect import iscoroutinefunction
from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import IntegrityError, router
from django.db.models import QuerySet
from django.utils.translation import gettext

from notifications.api import policy
from notifications.contrib.deliveries import digests, outages
from notifications.contrib.deliveries.attempts import POLICY, asend_open, send_open
from notifications.contrib.deliveries.decisions import (
    UNKNOWN_REACH,
    DeliveryOutcome,
    Facts,
    Reach,
    decide,
    read_facts,
    settle,
)
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.deliveries.preferences import is_paused
from notifications.contrib.deliveries.storing import fail, postpone
from notifications.db import (
    app_sync_to_async,
    database,
    database_now,
    database_now_sql,
    fair_atomic,
    lock_query,
    read_ids,
    retrying_atomic,
)
from notifications.extension import Channel, Duty, Subjects, Upkeep, hooks
from notifications.inbox import read_recipient
from notifications.jobs import own_task, stores_jobs
from notifications.models import ACTIVE, Job

State: Any = Delivery.State
Reason: Any = Delivery.Reason
#: Those that can be sent again.
ENDED = (State.SENT, State.SKIPPED, State.FAILED)

#: Seconds between two looks for deliveries that are due.
INTERVAL_SECONDS = 5.0
#: Seconds between two looks for deliveries whose job has ended without them.
ORPHAN_CHECK_INTERVAL_SECONDS = 60.0
#: Messages of one user that are sent at once, over all workers.
MAX_PER_USER = 8
#: Deliveries that get their jobs in one transaction.
MAX_PER_CHUNK = 50


def list_duties(process: Upkeep) -> list[Duty]:
    """Return the duties that enqueue the jobs of deliveries, and end those whose jobs have ended without them."""
    return [
        *(
            # One for each channel: one that blocks or raises holds up no other.
            Duty(
                f"enqueue deliveries by {name or 'channels that are not installed'}",
                INTERVAL_SECONDS,
                partial(enqueue_by, name),
                is_for_each_process=True,
                condition=due_condition,
                subjects=Subjects(partial(find_due_by, name), MAX_PER_CHUNK, calls_project=True),
            )
            for name in (*hooks.channels, "")
        ),
        Duty(
            "fail abandoned deliveries",
            ORPHAN_CHECK_INTERVAL_SECONDS,
            fail_orphaned,
            subjects=Subjects(find_orphaned),
        ),
    ]


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_due_by`` finds something, and its parameters."""
    now, param = database_now_sql()
    return (
        f"EXISTS (SELECT 1 FROM {Delivery._meta.db_table} WHERE state = 'pending' AND due_at <= {now})",
        (param,),
    )


def enqueue_due() -> bool:
    """Enqueue the jobs of deliveries that are due and still open, a chunk of each channel.

    Returns whether there may be more.
    """
    found = {name: list(islice(find_due_by(name), MAX_PER_CHUNK)) for name in (*hooks.channels, "")}
    for name, ids in found.items():
        enqueue_by(name, ids)
    return any(len(ids) == MAX_PER_CHUNK for ids in found.values())


def find_due_by(name: str) -> Iterator[UUID]:
    """Yield the ids of deliveries by a channel that are due, "" for channels that are not installed any more."""
    if not hasattr(deliver, "get_backend") or not stores_jobs(deliver.backend):
        return
    now, param = database_now_sql()
    names = [name] if name else list(hooks.channels)
    of_channel = f"channel {'' if name else 'NOT '}IN ({', '.join(['%s'] * len(names)) or 'NULL'})"
    where = f"state = 'pending' AND due_at <= {now} AND {of_channel if names else '1 = 1'}"
    yield from read_ids(Delivery, where, [param, *names], "due_at")


def enqueue_by(name: str, ids: Sequence[UUID]) -> None:
    """Enqueue the jobs of those of these deliveries by a channel that are due and still open.

    Called on a thread for code of the project, which the channel and the database of users are.
    """
    channel, outage, now = hooks.find_channel(name), outages.read(name), database_now()
    due = Delivery.objects.using(database()).filter(id__in=ids, state=State.PENDING, due_at__lte=now)
    places, suspended_until = MAX_PER_CHUNK, outage and outage.suspended_until
    if suspended_until:
        # The first job that begins is the next try. The others wait for its answer; digests get their members.
        places = 1 if suspended_until <= now else 0
    users = dict(due.order_by("due_at", "id").values_list("id", "user_id"))
    if not users:
        return
    # Before the transactions, in which no code of the project is called: an engine chooses the executor of a job.
    reaches = _read_reaches(channel, set(users.values()))
    jobs = {id: _prepare_job(channel, id, user) for id, user in users.items()}
    run_after = database_now() + digests.THROTTLE
    readers = set(users.values()) if channel.has_digests else ()
    messages = {
        is_required: {user: _prepare_digest_job(channel, user, run_after, is_joined=True) for user in readers}
        for is_required in (False, True)
    }

    def reach_of(row: Delivery) -> Reach:
        return reaches.get(row.user_id, UNKNOWN_REACH).find(row)

    def enqueue() -> list[Facts]:
        decided = settle(lock_query(due.filter(id__in=list(users)).order_by("id")), reach_of)
        ids = [facts.delivery.id for facts in decided[DeliveryOutcome.SEND]]
        inserted, suspended = ids[:places], ids[places:]
        _insert_jobs([jobs[id] for id in inserted])
        digests.queue_deliveries({id: jobs[id].id for id in inserted})
        joining = decided[DeliveryOutcome.JOIN]
        for is_required, new in messages.items():
            rows = [facts.delivery for facts in joining if facts.category.is_required == is_required]
            left = places - len(inserted)
            throttled, waiting = digests.throttle(rows, jobs, new, is_required=is_required, places=left)
            _insert_jobs(throttled)
            suspended += waiting
        if suspended_until and suspended:
            postpone(
                suspended,
                max(suspended_until, database_now() + timedelta(seconds=outages.SUSPENSION_SECONDS)),
            )
        return decided[DeliveryOutcome.COLLECT]

    if members := fair_atomic(enqueue, more_follows=True):
        prepared = digests.prepare(members, partial(_prepare_digest_job, channel))
        with suppress(IntegrityError):  # another process has inserted one of them: the next look finds it
            fair_atomic(lambda: _insert_jobs(digests.insert(prepared)))


def read_users(users: Collection[Any], *fields: str) -> dict[Any, Sequence[Any] | None]:
    """Return ``is_active`` and other fields of users by their keys, nothing if the model has no column for one.

    One query, in which no instance is made: the fields may be properties.
    """
    model: Any = get_user_model()
    names = ("is_active", *fields)
    if not {field.name for field in model._meta.concrete_fields}.issuperset(names):
        return {}
    rows = QuerySet(model, using=router.db_for_write(model)).filter(pk__in=users)
    found = {key: values for key, *values in rows.values_list("pk", *names)}
    return {user: found.get(user) for user in users}


def _read_reaches(channel: Channel, users: set[Any]) -> Mapping[Any, Reach]:
    """Return what is known of how users (keys) are reached, without those of whom only a job can find it out."""
    rows = read_users(users, *channel.user_fields())
    addresses = channel.find_addresses({user: row[1:] for user, row in rows.items() if row is not None})
    return {
        user: Reach(exists=False) if row is None else Reach(True, bool(row[0]), addresses.get(user))
        for user, row in rows.items()
    }


def _prepare_job(channel: Channel, id: UUID, user: Any, **options: Any) -> Job:
    task = deliver_async if iscoroutinefunction(channel.send) else deliver
    return task.get_backend().prepare(task, [str(id), str(user)], options)[0]


def resend(id: UUID) -> str:
    """Enqueue a job that sends a delivery once more, although its notification was seen or read.

    Returns why it is not sent, empty if it is: a text. Raises as ``enqueue()`` does.
    """
    deliveries = Delivery.objects.using(database()).filter(id=id)
    user, name = deliveries.values_list("user_id", "channel").first() or (None, "")
    channel, recipient = hooks.find_channel(name), None if user is None else read_recipient(user)
    reach = Reach(exists=False)
    if recipient is not None:
        reach = Reach(is_active=recipient.is_active)
        if not channel.has_many_addresses:  # of which one may be new: the job looks
            reach = reach._replace(addresses=channel.addresses(recipient.user))
    if not hasattr(deliver, "get_backend") or not stores_jobs(deliver.backend):
        return gettext("No backend in TASKS stores jobs.")
    job = _prepare_job(channel, id, user, is_resend=True)

    def enqueue() -> str:
        row = lock_query(deliveries, skip_locked=False).first()
        if row is None:
            return str(Reason.DELETED.label)
        if row.state not in ENDED:  # its job may send it at this moment
            return gettext("It is not decided yet, or is being sent.")
        row.state, row.reason, row.error = State.QUEUED, "", ""
        row.job, row.attempted_at, row.ended_at = job.id, None, None
        facts = read_facts([row])[0]
        outcome, reason = decide(facts, reach, is_resend=True)
        if outcome is DeliveryOutcome.SKIP:
            return str(row.describe_reason(reason))
        if outcome is DeliveryOutcome.WAIT:
            if is_paused(facts.reader, facts.now):
                return gettext("The user has paused everything for now.")
            return gettext("The user has quiet hours now.")
        row.save(
            using=database(), update_fields=["state", "reason", "error", "job", "attempted_at", "ended_at"]
        )
        _insert_jobs([job])
        return ""

    return retrying_atomic(enqueue)


def _insert_jobs(jobs: Sequence[Job]) -> None:
    deliver.get_backend().insert_all(jobs)


def _prepare_digest_job(
    channel: Channel, user: Any, run_after: datetime, queued_key: str | None = None, **options: bool
) -> Job:
    """Return the job of a digest, which has a key, or of a message that deliveries may join."""
    task = deliver_digest_async if iscoroutinefunction(channel.send) else deliver_digest
    task = task.using(run_after=run_after, queued_key=queued_key)
    return task.get_backend().prepare(task, [str(user)], options)[0]


def find_orphaned() -> Iterator[UUID]:
    """Yield the ids of deliveries whose job has ended otherwise: after its last attempt, or by hand."""
    active = ", ".join(f"'{state}'" for state in ACTIVE)
    is_orphaned = (
        "state = 'queued' AND job IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM notifications_job j WHERE j.id = job AND j.state IN ({active}))"
    )
    yield from read_ids(Delivery, is_orphaned, (), "job")


def fail_orphaned(ids: Sequence[UUID]) -> None:
    """Mark deliveries as failed whose job has ended otherwise."""
    rows = Delivery.objects.using(database()).filter(id__in=ids, state=State.QUEUED)
    for id, job, error in rows.values_list("id", "job", "error"):
        fail([id], job, error or "Its job has ended before it was recorded as sent.")


@own_task(takes_context=True, executor=Job.Executor.EMAIL)
@policy(title="Deliver a notification", concurrency_key="mail:{user}", concurrency=MAX_PER_USER, **POLICY)
def deliver(context: Any, delivery: str, user: str, is_resend: bool = False) -> str:
    """Send a delivery, which has this job, on a thread, if its notification is still open. Returns its state."""
    return send_open(context, is_resend=is_resend)


@own_task(takes_context=True, executor=Job.Executor.SENDER)
@policy(title="Deliver a notification", concurrency_key="send:{user}", concurrency=MAX_PER_USER, **POLICY)
async def deliver_async(context: Any, delivery: str, user: str, is_resend: bool = False) -> str:
    """Do what ``deliver()`` does, by a channel whose ``send()`` is async."""
    return await asend_open(context, is_resend=is_resend)


@own_task(takes_context=True, executor=Job.Executor.EMAIL)
@policy(title="Deliver a digest", concurrency_key="mail:{user}", concurrency=MAX_PER_USER, **POLICY)
def deliver_digest(context: Any, user: str, is_joined: bool = False) -> str:
    """Send the deliveries of a digest, which have this job, in one message if they are open. Returns their state.

    With ``is_joined`` its user has not chosen a digest: they were due soon after one another.
    """
    digests.close(UUID(context.task_result.id))
    return send_open(context, is_digest=True, is_joined=is_joined)


@own_task(takes_context=True, executor=Job.Executor.SENDER)
@policy(title="Deliver a digest", concurrency_key="send:{user}", concurrency=MAX_PER_USER, **POLICY)
async def deliver_digest_async(context: Any, user: str, is_joined: bool = False) -> str:
    """Do what ``deliver_digest()`` does, by a channel whose ``send()`` is async: no thread for e-mails waits for it."""
    await app_sync_to_async(digests.close)(UUID(context.task_result.id))
    return await asend_open(context, is_digest=True, is_joined=is_joined)
