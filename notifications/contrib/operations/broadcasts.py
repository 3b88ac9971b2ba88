"""What operations give to broadcasts: the users who are affected by an incident, as an audience.

The value of such an audience names the incident, and the affected users by the order in which they were recorded: those
after one, up to another, so that it has the same users when it is counted and when it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.utils.translation import gettext as _

from notifications import times
from notifications.contrib.operations.incidents.reading import find_incident
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.db import database, retrying_atomic

#: What a user needs besides the permission to send: the one to view the overview.
VIEW_PERMISSION = "notifications_operations.view_overview"
#: How long a link to the composer can be used.
MAX_LINK_AGE = timedelta(days=1)
#: Users whom one transaction records anew.
MAX_USERS_RELEASED = 100


class Message(StrEnum):
    """What the users get to know: that it fails, for the first time or again, or that it is over."""

    BEGIN, AGAIN, END = "begin", "again", "end"


@dataclass(frozen=True, slots=True)
class AffectedUsers:
    """The users of whom jobs failed in an incident, recorded after one (``AffectedUser.id``) and up to another."""

    incident: Incident
    message: Message
    after: int
    until: int

    @classmethod
    def of(cls, incident: Incident, message: Message) -> AffectedUsers:
        """Return those who are to get a message now."""
        if message == Message.BEGIN:
            return cls(incident, message, incident.last_notified, incident.last_user)
        return cls(incident, message, 0, incident.last_notified)

    def may_be_sent(self) -> Q:
        """Return the condition of its incident: not if another broadcast has told its users, or some of them."""
        if self.message == Message.END:
            return Q(over_at__isnull=False, end_broadcast=None, notified_users__gt=0)
        return Q(last_notified=self.after if self.message == Message.BEGIN else self.until)

    @property
    def value(self) -> str:
        return f"{self.incident.pk}:{self.message.value}:{self.after}:{self.until}"

    def describe(self) -> str:
        """Return a description for staff."""
        return self.incident.task_path

    def read_keys(self, after: Any, limit: int) -> list[Any]:
        """Return the first keys of users that follow a key, None for the first ones, by an index."""
        rows = AffectedUser.objects.using(database()).filter(incident=self.incident.pk)
        rows = rows.filter(id__gt=self.after, id__lte=self.until)
        rows = rows if after is None else rows.filter(user_id__gt=after)
        return list(rows.order_by("user_id").values_list("user_id", flat=True)[:limit])

    def write_message(self) -> dict[str, str]:
        """Return title, body and level of a message to them, in the active language."""
        name = self.incident.task_path.rpartition(".")[2].replace("_", " ").capitalize()
        begun_at = times.format_short(self.incident.begun_at)
        if self.message != Message.END:
            return {
                "level": "warning",
                "title": _("%(name)s does not work reliably") % {"name": name},
                "body": _(
                    "Some of your jobs have failed since %(time)s. We are working on it, and will write again when it "
                    "is over."
                )
                % {"time": begun_at},
            }
        return {
            "level": "success",
            "title": _("%(name)s works again") % {"name": name},
            "body": _("It failed from %(begin)s to %(end)s.")
            % {"begin": begun_at, "end": times.format_short(self.incident.failed_at)},
        }


def find_audience(value: str) -> AffectedUsers | None:
    """Return the users that the value of an audience names, None if there is no such incident."""
    parts = value.split(":")
    if len(parts) != 4 or parts[1] not in set(map(str, Message)):
        return None
    id, message, after, until = parts
    if not (after.isdecimal() and until.isdecimal()) or (incident := find_incident(id)) is None:
        return None
    return AffectedUsers(
        incident, Message(message), int(after[:18]), min(int(until[:18]), incident.last_user)
    )


def sign_audience(value: str, user: Any) -> str:
    """Return the value of an audience for the address of the composer, which is of use to this user only."""
    return signing.dumps(value, salt=_salt(user))


def read_signed_audience(text: str, user: Any) -> str:
    """Return the value of an audience that was signed for a user, "" for none or if the user may not write to it."""
    if not user.has_perm(VIEW_PERMISSION):
        return ""
    try:
        return str(signing.loads(text, salt=_salt(user), max_age=MAX_LINK_AGE))
    except signing.BadSignature:
        return ""


def _salt(user: Any) -> str:
    return f"{__name__}.{user.pk}"


def record_broadcast(value: str, broadcast: UUID, by: str) -> bool:
    """Store with an incident that its users are being notified, in the transaction of the broadcast.

    Returns whether they are: not if another broadcast has told them, or some of them, since they were counted.
    """
    if (audience := find_audience(value)) is None:
        return False
    rows = Incident.objects.using(database()).filter(audience.may_be_sent(), pk=audience.incident.pk)
    if audience.message == Message.END:
        return bool(rows.update(end_broadcast=broadcast))
    changed = rows.update(
        broadcast=broadcast,
        notified_at=times.now(),
        notified_by=by[:150],
        notified_users=_count_until(audience.incident, audience.until),
        last_notified=audience.until,
    )
    if changed:  # and by that the row is locked
        added = (str(broadcast), audience.after, audience.until)
        _write_broadcasts(audience.incident, [*_read_broadcasts(audience.incident), added])
    return bool(changed)


def record_withdrawal(value: str, broadcast: UUID) -> None:
    """Store with an incident that a message to its users is withdrawn, in the transaction of that."""
    if (audience := find_audience(value)) is None:
        return
    rows = Incident.objects.using(database()).filter(pk=audience.incident.pk)
    if audience.message == Message.END:
        rows.filter(end_broadcast=broadcast).update(end_broadcast=None)
        return
    rows.update(last_user=F("last_user"))  # takes the lock
    rows.filter(broadcast=broadcast).update(broadcast=None, notified_at=None)
    others = [row for row in _read_broadcasts(audience.incident) if row[0] != str(broadcast)]
    _write_broadcasts(audience.incident, others)


def release_recipients(value: str) -> bool:
    """Have some of the users of a withdrawn message count as not notified, and return whether any did.

    They are recorded anew, after those of all messages. Users of another message that was not withdrawn stay notified.
    """
    audience = find_audience(value)
    if audience is None or audience.message == Message.END:
        return False
    incident = Incident.objects.using(database()).filter(pk=audience.incident.pk)
    rows = AffectedUser.objects.using(database()).filter(incident=audience.incident.pk)

    def release() -> bool:
        incident.update(last_user=F("last_user"))  # takes the lock: who is counted later has them too
        released = rows.filter(id__gt=audience.after, id__lte=audience.until)
        for _id, after, until in _read_broadcasts(audience.incident):
            released = released.exclude(id__gt=after, id__lte=until)
        found = list(released[:MAX_USERS_RELEASED])
        rows.filter(id__in=[row.pk for row in found]).delete()
        added = rows.bulk_create(
            AffectedUser(incident_id=row.incident_id, user_id=row.user_id) for row in found
        )
        if added:
            last = max(row.pk for row in added)
            incident.update(last_user=Greatest(F("last_user"), last))
        else:
            last_notified = incident.values_list("last_notified", flat=True).first() or 0
            incident.update(notified_users=_count_until(audience.incident, last_notified))
        return bool(added)

    return retrying_atomic(release)


def _count_until(incident: Incident, until: int) -> int:
    """Return how many affected users were recorded up to one, without those who were deleted since."""
    rows = AffectedUser.objects.using(database()).filter(incident=incident.pk, id__lte=until)
    return rows.count()


def _read_broadcasts(incident: Incident) -> list[tuple[str, int, int]]:
    """Return ``Incident.broadcasts`` as it is now."""
    found = Incident.objects.using(database()).filter(pk=incident.pk).values_list("broadcasts", flat=True)
    return [(id, after, until) for id, after, until in json.loads(found.first() or "[]")]


def _write_broadcasts(incident: Incident, rows: Sequence[tuple[str, int, int]]) -> None:
    Incident.objects.using(database()).filter(pk=incident.pk).update(broadcasts=json.dumps(rows))
