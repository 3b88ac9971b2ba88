"""The template tag of push: ``{% load notifications_deliveries %}``."""

from __future__ import annotations

from django import template

from notifications.templatetags.notifications import script_element

register = template.Library()


@register.simple_tag(takes_context=True)
def notifications_push(context: template.Context) -> str:
    """Render the script of ``notifications/devices.html``."""
    return script_element(context, "push")
