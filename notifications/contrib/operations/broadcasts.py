"""What operations give to broadcasts: the users who are affected by an incident, as an audience.

The value of such an audience names the incident, and the affected users by the order in which they were recorded: those
after one, up to another, so that it has the same users when it is counted and when it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from notifications import times
from notifications.contrib.operations.incidents.reading import find_incident
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.db import database


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
    id, message, after, until = (*value.split(":"), "", "", "", "")[:4]
    is_valid = message in set(map(str, Message)) and after.isdecimal() and until.isdecimal()
    if not is_valid or (incident := find_incident(id)) is None:
        return None
    return AffectedUsers(incident, Message(message), int(after[:18]), int(until[:18]))


def record_broadcast(value: str, broadcast: UUID, by: str) -> bool:
    """Store with an incident that its users are being notified, in the transaction of the broadcast.

    Returns whether they are: not if another broadcast has told them, or some of them, since they were counted.
    """
    if (audience := find_audience(value)) is None:
        return False
    rows = Incident.objects.using(database()).filter(pk=audience.incident.pk)
    if audience.message == Message.END:
        return bool(rows.filter(end_broadcast=None).update(end_broadcast=broadcast))
    if audience.message == Message.BEGIN:
        rows = rows.filter(last_notified=audience.after)
    counted = AffectedUser.objects.using(database()).filter(incident=audience.incident.pk)
    changed = rows.update(
        broadcast=broadcast,
        notified_at=times.now(),
        notified_by=by[:150],
        notified_users=counted.filter(id__lte=audience.until).count(),
        last_notified=audience.until,
    )
    return bool(changed)
