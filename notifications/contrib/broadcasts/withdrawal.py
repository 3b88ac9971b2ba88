"""The job that withdraws a broadcast: it archives the unread notifications in chunks, those that were read stay."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import streams, times
from notifications.api import policy
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.broadcasts.sending import POLICY, finish, read_broadcast
from notifications.db import connection, database, fair_atomic, lock_query
from notifications.exceptions import JobError
from notifications.extension import RecordedTransaction, hooks
from notifications.inbox import require_permission
from notifications.jobs import own_task
from notifications.models import Notification
from notifications.worker import current_execution

State = Broadcast.State

#: How often notifications are tried again that other transactions had locked, and the pause before that.
MAX_PASSES, PAUSE_SECONDS = 20, 0.25
#: Notifications that one transaction archives: of 100 it holds SQLite's lock for over 10 ms.
MAX_ROWS_PER_CHUNK = 50


@own_task(takes_context=True)
@policy(**POLICY)
def withdraw_broadcast(context: Any, *, title: str, broadcast: str, url: str) -> dict[str, Any]:
    """Archive the unread notifications of a broadcast in the name of the owner of the job.

    Done again from the start it archives none twice.
    """
    row, execution = read_broadcast(broadcast), current_execution()
    assert execution is not None
    if row.state == State.WITHDRAWING:
        _archive_all(context, row, execution.job.user_id)
        if row.audience_kind == Broadcast.AudienceKind.AFFECTED:
            _release_recipients(context, row)
        finish(row, State.WITHDRAWN, withdrawn_at=times.now())
    text = ngettext(
        "%(count)d unread notification was withdrawn.",
        "%(count)d unread notifications were withdrawn.",
        row.withdrawn,
    )
    return {"withdrawn": row.withdrawn, "text": text % {"count": row.withdrawn}, "url": url}


def find_withdrawn(rows: Sequence[Notification], tx: RecordedTransaction) -> list[UUID]:
    """Return the ids of snoozed notifications whose broadcasts are withdrawn. See ``Extension.before_raised()``."""
    ids = {row.broadcast for row in rows if row.broadcast}
    if not ids:
        return []
    found = Broadcast.objects.using(database()).filter(
        pk__in=ids, state__in=(State.WITHDRAWING, State.WITHDRAWN)
    )
    withdrawn = set(found.values_list("pk", flat=True))
    return [row.id for row in rows if row.broadcast in withdrawn]


def _archive_all(context: Any, row: Broadcast, user: Any) -> None:
    for _pass in range(MAX_PASSES):
        skipped, position = 0, None
        while True:
            context.raise_if_cancelled()
            require_permission(user, "notifications_broadcasts.withdraw_broadcast")
            chunk = withdraw_chunk(row.pk, position)
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


def _release_recipients(context: Any, row: Broadcast) -> None:
    """Have the app that has named the recipients count them as not notified, in chunks."""
    [value] = json.loads(row.audience_values)
    for release in hooks.functions_of("broadcasts", "release_recipients"):
        while release(value):
            context.raise_if_cancelled()


class WithdrawnChunk(NamedTuple):
    """What one chunk has done.

    ``archived``, ``skipped``
        How many notifications it has archived, and how many another transaction had locked.
    ``position``
        The id of the last one that was read, None if there are no more.
    """

    archived: int
    skipped: int
    position: UUID | None


def withdraw_chunk(broadcast: UUID, after: UUID | None) -> WithdrawnChunk:
    """Archive and count the first unread notifications of a broadcast whose ids are above ``after``; number them.

    A notification that is locked, because its user is reading it now, is skipped.
    """
    chunk, users = fair_atomic(lambda: _archive_chunk(broadcast, after), more_follows=True)
    streams.number(users, more_follows=True)
    return chunk


def _archive_chunk(broadcast: UUID, after: UUID | None) -> tuple[WithdrawnChunk, set[Any]]:
    """Return the chunk, and the users (keys) whose notifications were archived."""
    db = connection()
    rows = Notification.objects.using(db.alias).filter(
        broadcast=broadcast, read_at__isnull=True, archived_at__isnull=True
    )
    following = rows if after is None else rows.filter(id__gt=after)
    ids = list(following.order_by("id").values_list("id", flat=True)[:MAX_ROWS_PER_CHUNK])
    lockable = lock_query(rows.filter(id__in=ids))
    # An UPDATE locks in no order, so the rows are locked first, by id.
    locked = dict(lockable.order_by("id").values_list("id", "user_id")) if ids else {}
    if locked:
        Notification.objects.using(db.alias).filter(id__in=locked).update(archived_at=times.now(), seq=None)
        rows_of_broadcast = Broadcast.objects.using(db.alias).filter(pk=broadcast)
        rows_of_broadcast.update(withdrawn=F("withdrawn") + len(locked))
    chunk = WithdrawnChunk(
        archived=len(locked),
        skipped=len(ids) - len(locked),
        position=ids[-1] if len(ids) == MAX_ROWS_PER_CHUNK else None,
    )
    return chunk, set(locked.values())
