"""The icons of notifications and buttons, as paths of SVG of 24 x 24 units that are drawn with a line.

Templates and the browser client write them into the page: an image of a style sheet would come later, and not at all
from another origin.
"""

from __future__ import annotations

from typing import Any

from notifications import validators

#: Those that a notification may have, by ``notify(icon=...)`` or its level. The browser client has them too.
NOTIFICATION_ICONS = {
    "bell": "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15zM10 21h4",
    "card": "M3.5 6h17v12h-17zM3.5 10h17M7 14.5h3",
    "clock": "M12 3.5a8.5 8.5 0 1 0 .01 0zM12 7.5V12l3 2",
    "comment": "M4 5h16v11h-9l-4 4v-4H4z",
    "document": "M6 3.5h8l4 4v13H6zM14 3.5v4h4M9 12h6M9 16h6",
    "download": "M12 4v11M7.5 10.5L12 15l4.5-4.5M5 20h14",
    "error": "M7 7l10 10M17 7L7 17",
    "info": "M12 11v6.5M12 6.5v.01",
    "lock": "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
    "mail_open": "M3.5 10L12 4l8.5 6v10h-17zM3.5 10.5l8.5 5.5 8.5-5.5",
    "megaphone": "M4 10v4h3l9 4.5v-13L7 10zM20 10.5v3M8 14.5l1 5h2.5",
    "more": "M5 12v.01M12 12v.01M19 12v.01",
    "person": "M12 4a4 4 0 1 0 .01 0zM4.5 20.5a7.5 7.5 0 0 1 15 0",
    "question": "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 18v.01",
    "success": "M5 12.5l5 5 9.5-10.5",
    "warning": "M12 6v7.5M12 17.5v.01",
}
ICONS = {
    **NOTIFICATION_ICONS,
    "bookmark": "M7 4h10v16l-5-4-5 4z",
    "inbox": "M4 14.5L6 5h12l2 9.5V20H4zM4 14.5h5l1 2h4l1-2h5",
    "mail": "M3.5 6h17v12h-17zM3.5 7l8.5 6.5L20.5 7",
    "select": "M4 4h16v16H4zM8 12.5l3 3 5.5-6.5",
    "up": "M6 14.5l6-6 6 6",
    "down": "M6 9.5l6 6 6-6",
    "mute": "M6 16.5V11a6 6 0 0 1 9-5.2M18 11v5.5l1.5 1.5h-13M10 21h4M4 4l16 16",
}


def choose_icon(level: str, icon: Any) -> str:
    """Return the name of the icon of a notification: its own if it has one that exists, else that of its level."""
    for name in (icon, level):
        if isinstance(name, str) and name in NOTIFICATION_ICONS:
            return name
    return "info"


def read_actor(actor: Any) -> tuple[Any, str]:
    """Return the name of an actor, and the address of their image, ``""`` without one that is safe to load."""
    if not isinstance(actor, dict):
        return actor, ""
    try:
        return actor.get("name"), validators.link("image", actor.get("image"))
    except (TypeError, ValueError):
        return actor.get("name"), ""


def read_initials(actor: Any) -> str:
    """Return the initials of the first and last word of a name, ``""`` if it is no text."""
    words = actor.split() if isinstance(actor, str) else []
    return "".join([word[0] for word in (words[:1] + words[1:][-1:])]).upper()
