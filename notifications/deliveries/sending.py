"""Send deliveries when they are due: a duty gives each a job, which decides and sends.

The job decides in the transaction that stores the address, so nothing is sent for what was seen, read or archived
before. It sends at least once: a process that is killed between the answer of the mail server and the commit sends
again, with the same ``Message-ID``.
"""

from __future__ import annotations

import smtplib
from collections import defaultdict
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError
from django.db.models import Exists, OuterRef

from notifications import times, validators
from notifications.compat import task_backends
from notifications.conf import settings
from notifications.db.clock import database_now
from notifications.db.locks import lock_query
from notifications.db.transactions import database, fair_atomic, retrying_atomic
from notifications.deliveries.decisions import (
    Recipient,
    find_reason,
    find_reason_of_recipient,
    read_facts,
    read_recipient,
)
from notifications.deliveries.emails import build_email, send_email
from notifications.jobs.batches import first_queue_name
from notifications.jobs.claiming.lanes import has_engine
from notifications.jobs.declaring.own_tasks import own_task
from notifications.jobs.declaring.policies import policy
from notifications.jobs.declaring.tasks import stores_jobs
from notifications.jobs.handlers import events
from notifications.models import Delivery, Job, Notification
from notifications.states import ACTIVE

State: Any = Delivery.State

QUEUE = "deliveries"
#: Seconds between two looks for deliveries that are due.
INTERVAL_SECONDS = 5.0
#: Deliveries that get their jobs in one transaction.
MAX_PER_CHUNK = 50
#: How often a delivery is tried, in four hours, and seconds for one try.
MAX_ATTEMPTS, TIMEOUT_SECONDS = 10, 120
#: Seconds from the first try to the second; each pause is twice as long as the one before, at most an hour.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60, 3600
#: Answers of HTTP APIs, which have the attribute ``status_code``, that may pass, besides 5xx.
PASSING_STATUS_CODES = {408, 425, 429}
#: What may pass although the project's own code has raised it.
DATABASE_AWAY = (OperationalError, InterfaceError)
MAX_ERROR_LENGTH = 500


class TemporaryError(Exception):
    """A delivery could not be sent for a reason that may pass."""

    def __init__(self, message: str, attempt: int) -> None:
        super().__init__(message)
        self.retry_after = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), MAX_PAUSE_SECONDS)


class DeliveryError(Exception):
    """A delivery could not be sent, and has failed. A retry of its job by hand sends it again."""


def queue_name(alias: str = "default") -> str:
    """Return ``deliveries``, or another queue where the backend in ``TASKS`` or its engine does not serve this one."""
    queues = task_backends[alias].queues
    is_served = QUEUE in queues if queues else not has_engine(alias)
    return QUEUE if is_served else first_queue_name(alias)


def enqueue_due() -> bool:
    """Enqueue the jobs of a chunk of deliveries that are due and still open. Returns whether there may be more.

    Users are not read here: their model is the project's, and one that raises would hold up all others.
    """
    due = Delivery.objects.using(database()).filter(state=State.PENDING, due_at__lte=database_now())
    ids = list(due.order_by("due_at", "id").values_list("id", flat=True)[:MAX_PER_CHUNK])
    if not ids or not hasattr(deliver, "get_backend") or not stores_jobs(deliver.backend):
        return False
    backend = deliver.get_backend()
    jobs = {id: backend.prepare(deliver, [str(id)], {})[0] for id in ids}
    has_more = len(ids) == MAX_PER_CHUNK

    def enqueue() -> bool:
        rows = list(lock_query(due.filter(id__in=ids).order_by("id")))
        facts = read_facts(rows)
        inserted, skipped = [], defaultdict(list)
        for row in rows:
            if reason := find_reason(facts[row.id]):
                skipped[reason].append(row.id)
            else:
                job = jobs[row.id]
                job.created_at = job.queued_at = times.now()
                row.state, row.job = State.QUEUED, job.id
                inserted.append(row)
        for reason, ids_of_reason in skipped.items():
            _end(ids_of_reason, State.SKIPPED, reason=reason)
        Delivery.objects.using(database()).bulk_update(inserted, ["state", "job"])
        events.insert_jobs([jobs[row.id] for row in inserted])
        events.wake_workers([jobs[row.id] for row in inserted])
        return has_more

    fair_atomic(enqueue)
    return has_more


def fail_abandoned() -> None:
    """Mark deliveries as failed whose job has ended otherwise: after its last attempt, or by hand."""
    active = Job.objects.using(database()).filter(id=OuterRef("job"), state__in=ACTIVE)
    rows = Delivery.objects.using(database()).filter(state=State.QUEUED, job__isnull=False)
    errors = dict(rows.exclude(Exists(active)).values_list("id", "error")[:MAX_PER_CHUNK])
    for id, error in errors.items():
        _end([id], State.FAILED, error=error or "Its job has ended before it was recorded as sent.")


@own_task(queue_name=queue_name, takes_context=True)
@policy(
    title="Deliver a notification",
    max_attempts=MAX_ATTEMPTS,
    timeout=TIMEOUT_SECONDS,
    retry_on=(TemporaryError, TimeoutError, *DATABASE_AWAY),
    notify=False,
)
def deliver(context: Any, delivery: str) -> str:
    """Send a delivery if its notification is still open. Returns its state, or why it is not sent."""
    id = UUID(delivery)
    row = Delivery.objects.using(database()).filter(id=id).first()
    if row is None:
        return str(Delivery.Reason.DELETED)
    recipient = read_recipient(row.user_id)
    notification = retrying_atomic(lambda: _begin(row, recipient))
    if notification is None or recipient is None:
        return str(row.reason or row.state)
    try:
        _send(row, notification, recipient.user)
    except DATABASE_AWAY:
        raise
    except Exception as exc:  # templates and backends of the project raise anything
        error = f"{type(exc).__name__}: {exc}"
        if may_pass(exc):
            _store([id], error=error)
            raise TemporaryError(error, context.attempt) from exc
        _end([id], State.FAILED, error=error)
        raise DeliveryError(error) from exc
    _end([id], State.SENT)
    return str(State.SENT)


def _begin(row: Delivery, recipient: Recipient | None) -> Notification | None:
    """Decide, and store the address that it is sent to. Returns the notification, None if it is not sent."""
    # One that has failed: its job was retried by hand.
    rows = Delivery.objects.using(database()).filter(id=row.id, state__in=(State.QUEUED, State.FAILED))
    if lock_query(rows, skip_locked=False).first() is None:
        return None
    facts = read_facts([row])[row.id]
    row.reason = find_reason(facts) or find_reason_of_recipient(recipient)
    if row.reason or recipient is None:
        _end([row.id], State.SKIPPED, reason=row.reason)
        return None
    row.address = recipient.address
    rows.update(state=State.QUEUED, address=row.address, ended_at=None)
    return facts.notification


def _send(row: Delivery, notification: Notification, user: Any) -> None:
    if not settings.SITE_URL:
        raise ConnectionError("NOTIFICATIONS['SITE_URL'] is empty, so there is no address for links.")
    try:
        email = build_email(row, notification, user)
    except DATABASE_AWAY:
        raise
    except Exception as exc:
        raise ValueError(f"The e-mail cannot be made: {type(exc).__name__}: {exc}") from exc
    send_email(email)


def may_pass(exc: BaseException) -> bool:
    """Return whether an error of sending may pass: not for good answers like 550 of SMTP, and not for wrong values."""
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        return all(code < 500 for code, _ in exc.recipients.values())
    if isinstance(exc, smtplib.SMTPAuthenticationError):
        return True  # a password that is wrong now
    if isinstance(exc, smtplib.SMTPResponseException):
        return not 500 <= exc.smtp_code < 600
    status = getattr(exc, "status_code", None)
    if isinstance(status, int):
        return not 400 <= status < 500 or status in PASSING_STATUS_CODES
    return not isinstance(exc, ValueError | TypeError)


def _end(ids: list[UUID], state: str, *, reason: str = "", error: str = "") -> None:
    _store(ids, state=state, reason=reason, error=error, ended_at=times.now())


def _store(ids: list[UUID], *, error: str, **values: Any) -> None:
    """Store what became of deliveries, but of those that were sent, and that were deleted meanwhile."""
    error = validators.shortened(
        error.replace("\0", "\ufffd").encode(errors="replace").decode(), MAX_ERROR_LENGTH
    )
    rows = Delivery.objects.using(database()).filter(id__in=ids).exclude(state=State.SENT)
    retrying_atomic(lambda: rows.update(error=error, **values))
