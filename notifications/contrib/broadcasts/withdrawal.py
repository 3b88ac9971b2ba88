"""The job that withdraws a broadcast: it archives the unread notifications, those that were read stay."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times
from notifications.contrib.broadcasts.archiving import withdraw_chunk
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.broadcasts.sending import (
    MAX_ATTEMPTS,
    TIMEOUT_SECONDS,
    describe_result,
    read_broadcast,
)
from notifications.db.transactions import database, retrying_atomic
from notifications.db.unavailable import RETRIED_ERRORS
from notifications.exceptions import JobError
from notifications.jobs.declaring.own_tasks import first_queue_name, own_task
from notifications.jobs.declaring.policies import policy
from notifications.jobs.users import require_permission

State = Broadcast.State

#: How often notifications are tried again that other transactions had locked, and the pause before that.
MAX_PASSES, PAUSE_SECONDS = 20, 0.25


@own_task(queue_name=first_queue_name, takes_context=True)
@policy(
    title="{title}",
    max_attempts=MAX_ATTEMPTS,
    timeout=TIMEOUT_SECONDS,
    retry_on=RETRIED_ERRORS,
    notify=describe_result,
)
def withdraw_broadcast(context: Any, *, title: str, broadcast: str, user: str, url: str) -> dict[str, Any]:
    """Archive the notifications of a broadcast that are unread. Done again from the start it archives none twice."""
    row = read_broadcast(broadcast)
    user_field: Any = Broadcast._meta.get_field("sender").target_field
    if row.state == State.WITHDRAWING:
        _archive_all(context, row, user_field.to_python(user))
        _finish(row)
    text = ngettext(
        "%(count)d unread notification was withdrawn.",
        "%(count)d unread notifications were withdrawn.",
        row.withdrawn,
    )
    return {"withdrawn": row.withdrawn, "text": text % {"count": row.withdrawn}, "url": url}


def read_withdrawn(ids: Collection[UUID]) -> set[UUID]:
    """Return the ids of those of these broadcasts that are withdrawn, or being withdrawn."""
    if not ids:
        return set()
    rows = Broadcast.objects.using(database()).filter(
        pk__in=ids, state__in=(State.WITHDRAWING, State.WITHDRAWN)
    )
    return set(rows.values_list("pk", flat=True))


def _archive_all(context: Any, row: Broadcast, user: Any) -> None:
    def store_count(count: int) -> None:
        Broadcast.objects.using(database()).filter(pk=row.pk).update(withdrawn=F("withdrawn") + count)

    for _pass in range(MAX_PASSES):
        skipped, position = 0, None
        while True:
            context.raise_if_cancelled()
            require_permission(user, "notifications_broadcasts.withdraw_broadcast")
            chunk = withdraw_chunk(row.pk, position, store_count=store_count)
            row.withdrawn += chunk.archived
            skipped += chunk.skipped
            context.progress(row.withdrawn, max(row.sent, row.withdrawn))
            position = chunk.position
            if position is None:
                break
        if not skipped:
            return
        time.sleep(PAUSE_SECONDS)
    raise JobError(_("Some notifications are locked by another program. Try again."))


def _finish(row: Broadcast) -> None:
    def change() -> None:
        rows = Broadcast.objects.using(database()).filter(pk=row.pk, state=State.WITHDRAWING)
        rows.update(state=State.WITHDRAWN, withdrawn_at=times.now())

    retrying_atomic(change)
    row.refresh_from_db(using=database())
