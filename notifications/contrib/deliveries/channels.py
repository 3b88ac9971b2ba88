"""By what users are notified: the bell, and the channels of installed apps."""

from __future__ import annotations

from django.utils.translation import gettext

from notifications.extension import hooks

#: The bell, toasts and the inbox. What is switched off is kept there as read.
BELL = "bell"


def list_channels() -> list[str]:
    """Return by what users are notified: the bell, and the channels of installed apps."""
    return [BELL, *hooks.channels]


def label_of(channel: str) -> str:
    """Return what a channel is called where users choose by what they are notified."""
    if channel == BELL:
        return gettext("in the bell")
    return str(hooks.find_channel(channel).preference_label or channel)
