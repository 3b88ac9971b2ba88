"""The template tags of push and of e-mails: ``{% load notifications_deliveries %}``."""

from __future__ import annotations

from datetime import datetime

from django import template

from notifications import times
from notifications.http import script_element

register = template.Library()


@register.simple_tag(takes_context=True)
def notifications_push(context: template.Context) -> str:
    """Render the script of ``notifications/devices.html``."""
    return script_element(context, "push")


@register.simple_tag(takes_context=True)
def notifications_preferences(context: template.Context) -> str:
    """Render the script of ``notifications/preferences.html``."""
    return script_element(context, "preferences")


@register.filter
def short_time(moment: datetime) -> str:
    """Return a time as people write it: "Nov 28, 14:02 UTC". See ``times.format_short()``."""
    return times.format_short(moment)
