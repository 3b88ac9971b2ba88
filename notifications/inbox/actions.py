"""The actions of a notification: what is shown of them, and which one was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.urls import reverse

from notifications import serializers, streams, times, validators
from notifications.db.bulk import lock_query
from notifications.db.transactions import database, retrying_atomic
from notifications.models import Notification

#: The key of an action that was done: when, as text (RFC 3339).
DONE = "done"
#: The key of an action whose form was sent without a script, so that it is not known what came of it: when.
SENT = "sent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A link of a notification. Without a script, one that posts leads to a page with a form.

    ``answer``, ``post``
        The address to which a script posts a choice of a question, or the action, without this page.
    ``danger``
        What is lost by it, which is asked first.
    ``is_done``
        Whether a script has posted it: then it is no link any more.
    """

    label: str
    href: str = ""
    is_external: bool = False
    answer: str = ""
    post: str = ""
    danger: str = ""
    is_done: bool = False


def read_actions(row: Notification) -> list[dict[str, str]]:
    """Return the actions in the data of a notification, none if it has others than ``notify`` and this app write."""
    try:
        stored = serializers.decode_object(row.data).get("actions", [])
        ends = [{key: str(action.pop(key)) for key in (DONE, SENT) if key in action} for action in stored]
        return [action | end for action, end in zip(validators.actions(stored), ends, strict=True)]
    except (AttributeError, TypeError, ValueError, RecursionError):
        return []


def find_done(actions: list[dict[str, str]]) -> dict[str, str] | None:
    """Return the action that was done, after which no other one that posts is offered."""
    return next((action for action in actions if DONE in action), None)


def describe_actions(row: Notification) -> list[Action]:
    """Return what is shown of the actions of a notification."""
    actions = read_actions(row)
    done = find_done(actions)
    return [
        _describe_action(row, number, action)
        for number, action in enumerate(actions)
        if action is done or not (done and "post" in action)
    ]


def record_done(user: Any, id: UUID, number: int) -> bool:
    """Store that an action of a notification of a user (key) was done, and mark it as read.

    Returns whether none was done before. The row has its number when it returns.
    """
    return _record(user, id, number, DONE, lambda action: True)


def record_sent(user: Any, id: UUID, number: int, again: str) -> bool:
    """Store that the form of an action is sent to the project's view, and mark the notification as read.

    ``again``
        When it was sent before, as the page has shown that offers to send it again; else "".

    Returns whether it may be sent: no action was done, and this one was not sent since. Else nothing is changed.
    """
    return _record(user, id, number, SENT, lambda action: action.get(SENT, "") == again)


def _record(user: Any, id: UUID, number: int, key: str, is_allowed: Callable[[dict[str, str]], bool]) -> bool:
    def record() -> bool:
        rows = Notification.objects.using(database()).filter(pk=id, user=user, open_question=None)
        for row in lock_query(rows, skip_locked=False):
            actions = read_actions(row)
            if number >= len(actions) or "post" not in actions[number] or find_done(actions):
                return False
            if not is_allowed(actions[number]):
                return False
            now = times.now()
            data = serializers.decode_object(row.data)
            data["actions"][number][key] = times.format_time(now)
            rows.update(data=serializers.encode_json(data), read_at=row.read_at or now, seq=None)
            streams.number_in_transaction([user])
            return True
        return False

    return retrying_atomic(record)


def _describe_action(row: Notification, number: int, action: dict[str, str]) -> Action:
    label, danger = action["label"], action.get("danger", "")
    if DONE in action:
        return Action(label=label, is_done=True)
    if "post" in action:
        if row.open_question:  # whose page is what the notification links to
            return Action(label=label, href=row.url, answer=action["post"], danger=danger)
        href = reverse("notifications:action", args=[row.pk, number])
        # What was sent by a form is sent again from its page only, which says so.
        return Action(label=label, href=href, post="" if SENT in action else action["post"], danger=danger)
    return Action(
        label=label, href=action["url"], is_external=bool(urlsplit(action["url"]).netloc), danger=danger
    )
