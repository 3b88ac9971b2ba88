"""Begin to send a broadcast, or to withdraw it: its row and the job that does it are written in one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import jobs, times
from notifications.api import requester
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.broadcasts.sending import send_broadcast
from notifications.contrib.broadcasts.withdrawal import withdraw_broadcast
from notifications.db import database, retrying_atomic
from notifications.extension import hooks
from notifications.jobs import using_first_backend
from notifications.models import ACTIVE, Job, Notification

State = Broadcast.State


def can_withdraw(broadcast: Broadcast) -> bool:
    """Return whether a broadcast is not withdrawn, nor being withdrawn by a job that is queued or running."""
    if broadcast.state != State.WITHDRAWING:
        return broadcast.state != State.WITHDRAWN
    withdrawing = Job.objects.using(database()).filter(pk=broadcast.withdrawal_job, state__in=ACTIVE)
    return not withdrawing.exists()


def is_scheduled(broadcast: Broadcast) -> bool:
    return bool(broadcast.send_at and broadcast.send_at > times.now())


def describe_senders(rows: Sequence[Notification], reader: Any, place: str) -> dict[UUID, list[str]]:
    """Return who has sent notifications, in two queries. See ``Extension.parts_of()``.

    It was the staff if the sender or the broadcast was deleted.
    """
    if place not in ("list", "page"):
        return {}
    # The column of a damaged row may hold something else than an id.
    broadcasts = {row.pk: row.broadcast for row in rows if isinstance(row.broadcast, UUID)}
    if not broadcasts:
        return {}
    found = Broadcast.objects.using(database()).filter(pk__in=set(broadcasts.values()))
    senders = dict(found.values_list("pk", "sender_id"))
    names = _read_names(set(filter(None, senders.values())))
    text = _("Sent to several users by %(name)s")
    return {
        pk: [text % {"name": names.get(senders.get(broadcast)) or _("the staff")}]
        for pk, broadcast in broadcasts.items()
    }


def _read_names(users: set[Any]) -> dict[Any, str]:
    """Return the full names of users by their keys. Their user names may be e-mail addresses, which are not shown."""
    model = get_user_model()
    if not users or not hasattr(model, "get_full_name"):
        return {}
    return {user.pk: str(user.get_full_name()).strip() for user in model._base_manager.filter(pk__in=users)}


def begin_sending(broadcast: Broadcast, *, url: str) -> bool:
    """Insert a new broadcast and enqueue the job that sends it, at once or at its time, which the sender owns.

    ``url``
        The link of the notification of its end.

    Returns False, and changes nothing, if the broadcast exists already, because its form was sent twice, or if those
    affected by a failure are being notified already.
    Raises ``TooManyJobs``, ``ImproperlyConfigured`` and ``django.db.OperationalError``.
    """

    def begin() -> bool:
        rows = Broadcast.objects.using(database())
        rows.bulk_create([broadcast], ignore_conflicts=True)
        stored = rows.filter(pk=broadcast.pk, job=None, sender=broadcast.sender_id)
        if not stored.exists() or not _record_affected(broadcast):
            transaction.set_rollback(True, using=database())
            return False
        title = _("Send “%(title)s”") % {"title": broadcast.title}
        broadcast.job = _enqueue(
            send_broadcast,
            broadcast.sender_id,
            title,
            run_after=broadcast.send_at,
            broadcast=str(broadcast.pk),
            url=url,
        )
        return bool(stored.update(job=broadcast.job))

    return retrying_atomic(begin)


def _record_affected(broadcast: Broadcast) -> bool:
    """Have the app that has named the recipients store, in the same transaction, that they are being notified."""
    if broadcast.audience_kind != Broadcast.AudienceKind.AFFECTED:
        return True
    sender = get_user_model()._base_manager.filter(pk=broadcast.sender_id).first()
    name = sender.get_username() if sender else ""
    [value] = json.loads(broadcast.audience_values)
    return any(
        record(value, broadcast.pk, name) for record in hooks.functions_of("broadcasts", "record_broadcast")
    )


def describe_recipients(broadcast: Broadcast) -> str:
    """Return what the log of changes says of a broadcast: to how many users it was sent, and to whom."""
    text = ngettext("Sent to %(count)d user.", "Sent to %(count)d users.", broadcast.recipients)
    return text % {"count": broadcast.recipients} + f" {broadcast.audience_text}"


def begin_withdrawal(id: UUID, *, by: Any, url: str) -> bool:
    """Stop the sending of a broadcast, and enqueue the job that withdraws it, which ``by`` owns, a user.

    Returns False if it is withdrawn already, or a job is withdrawing it.
    Raises ``TooManyJobs`` and ``django.db.OperationalError``.
    """

    def begin() -> bool:
        rows = Broadcast.objects.using(database()).filter(pk=id)
        rows.update(level=F("level"))  # takes the lock, so that two requests begin one job
        broadcast = rows.first()
        if broadcast is None or not can_withdraw(broadcast):
            return False
        title = _("Withdraw “%(title)s”") % {"title": broadcast.title}
        if is_scheduled(broadcast) and broadcast.job:
            jobs.cancel([broadcast.job], by=by.pk)
        if broadcast.audience_kind == Broadcast.AudienceKind.AFFECTED:
            [value] = json.loads(broadcast.audience_values)
            for record in hooks.functions_of("broadcasts", "record_withdrawal"):
                record(value, broadcast.pk)
        job = _enqueue(withdraw_broadcast, by.pk, title, broadcast=str(id), url=url)
        return bool(rows.update(state=State.WITHDRAWING, withdrawal_job=job))

    return retrying_atomic(begin)


def _enqueue(
    task: Any, owner: Any, title: str, *, run_after: datetime | None = None, **arguments: str
) -> UUID:
    if not hasattr(task, "using"):
        raise ImproperlyConfigured(_("TASKS is wrong, so that no job can be enqueued. Run manage.py check."))
    prepared = using_first_backend(task, run_after=run_after)
    with requester(owner):
        return UUID(str(prepared.enqueue(title=title, **arguments).id))
