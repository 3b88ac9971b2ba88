"""The job that sends a broadcast, in chunks. It may be interrupted at any point and continues after the last chunk.

Each chunk is one transaction, which first moves the position of the broadcast from the end of the chunk before it. So a
recipient is notified once, also if a worker that was taken for lost continues beside the one that replaced it.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times
from notifications.api import FinishedJob, policy
from notifications.contrib.broadcasts.audiences import Audience, Texts
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import database, retrying_atomic
from notifications.exceptions import JobError
from notifications.inbox import require_permission
from notifications.jobs import own_task
from notifications.jobs.notifying import chunk_size, create_chunk
from notifications.jobs.reader_languages import read_languages
from notifications.streams import build_notification

State = Broadcast.State

#: Keys of recipients that are read at once.
MAX_KEYS_READ = 1_000


def describe_result(job: FinishedJob) -> dict[str, Any]:
    """Return what the owner is notified of: the numbers, and if it has failed the default, a link to the job."""
    if job.state != "succeeded":
        return {}
    return {"body": job.result["text"], "url": job.result["url"]}


#: Options of the policies of both tasks, which may take long.
POLICY: dict[str, Any] = {
    "title": "{title}",
    "max_attempts": 5,
    "timeout": 6 * 3600,
    "notify": describe_result,
}


@own_task(takes_context=True)
@policy(**POLICY)
def send_broadcast(context: Any, *, title: str, broadcast: str, url: str) -> dict[str, Any]:
    """Notify each user of the audience that has not been notified yet, in the order of their keys."""
    row = read_broadcast(broadcast)
    audience = Audience(kind=row.audience_kind, values=tuple(json.loads(row.audience_values)))
    while row.state == State.SENDING:
        context.progress(row.sent, max(row.recipients, row.sent))
        keys = audience.read_keys(row.position, MAX_KEYS_READ)
        if not keys:
            finish(row, State.SENT, sent_at=times.now())
            break
        while keys:
            size = chunk_size()
            chunk, keys = keys[:size], keys[size:]
            context.raise_if_cancelled()
            require_permission(row.sender_id, "notifications.add_notification")
            if not _send_chunk(row, chunk):
                break
            context.progress(row.sent, max(row.recipients, row.sent))
        row = read_broadcast(broadcast)
    text = ngettext("%(count)d user was notified.", "%(count)d users were notified.", row.sent)
    if row.state != State.SENT:
        text = _("Stopped, because it was withdrawn.")
    return {"sent": row.sent, "text": text % {"count": row.sent}, "url": url}


def read_broadcast(id: str) -> Broadcast:
    """Return a broadcast. Raises ``JobError`` if it does not exist."""
    row = Broadcast.objects.using(database()).filter(pk=UUID(id)).first()
    if row is None:
        raise JobError(_("The broadcast was deleted."))
    return row


def _send_chunk(row: Broadcast, keys: list[Any]) -> bool:
    """Notify these users; return False if the broadcast is withdrawn, or another attempt sends it."""
    languages, texts = read_languages(keys), Texts(row)
    notifications = [
        build_notification(
            key,
            texts.choose(languages.get(key, ""))[0],
            body=texts.choose(languages.get(key, ""))[1],
            url=row.url,
            level=row.level,
            category=row.category,
            broadcast=row.pk,
        )
        for key in keys
    ]
    position = str(keys[-1])

    def claim() -> bool:
        unsent = Broadcast.objects.using(database()).filter(
            pk=row.pk, state=State.SENDING, position=row.position
        )
        return bool(unsent.update(position=position, sent=F("sent") + len(keys)))

    notifications.sort(key=lambda notification: notification.user_id)
    # E-mails and push messages are in the language of the reader too.
    default = translation.get_language() or ""
    of_each = {row.id: languages.get(row.user_id) or default for row in notifications}
    if not create_chunk(notifications, more_follows=True, claim=claim, languages=of_each):
        return False
    row.position, row.sent = position, row.sent + len(keys)
    return True


def finish(row: Broadcast, state: Any, **times_of: datetime) -> None:
    """Store the last state of a broadcast, unless another attempt goes on with it."""
    rows = Broadcast.objects.using(database()).filter(pk=row.pk, state=row.state, position=row.position)
    retrying_atomic(lambda: rows.update(state=state, **times_of))
    row.refresh_from_db(using=database())
