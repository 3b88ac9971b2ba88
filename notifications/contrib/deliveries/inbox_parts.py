"""What the core's pages show of preferences and devices: links, the button that mutes, and the message after it."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils.translation import gettext

from notifications.contrib.deliveries.preferences import read_choices
from notifications.extension import PageButton, find_channel, hooks
from notifications.inbox.categories import load_categories
from notifications.models import Notification

#: What a change of the inbox begins with after a category was muted, whose name follows.
MUTED = "muted."


def list_links(page: str) -> list[tuple[str, str]]:
    """Return the label and address of each link of a page."""
    return [
        *(list_channel_links() if page == "inbox" else ()),
        (gettext("Preferences"), reverse("notifications:preferences")),
    ]


def list_channel_links() -> list[tuple[str, str]]:
    """Return the label and address of each page where users set a channel up."""
    return [link for name in hooks.channels for link in find_channel(name).links()]


def list_buttons(row: Notification) -> list[PageButton]:
    """Return the button that mutes the category of a notification, none if it has none or is required."""
    category = load_categories().get(row.category)
    if not row.category or category.is_required:
        return []
    label = gettext("Mute “%(category)s”") % {"category": category.name}
    return [PageButton(label, "mute", reverse("notifications:mute"), "category", row.category)]


def describe_muting(user: Any, change: str) -> tuple[str, PageButton] | None:
    """Return the message after a category was muted, and the button that undoes it."""
    category = change.removeprefix(MUTED)
    if category == change or not read_choices([user], [category]):
        return None
    text = gettext("“%(muted)s” is muted. Its notifications are kept in your inbox as read.")
    undo = PageButton(gettext("Undo"), "", reverse("notifications:unmute"), "category", category)
    return text % {"muted": load_categories().get(category).name}, undo
