"""The template tag of the pages of questions."""

from __future__ import annotations

from django import template

from notifications.http import script_element

register = template.Library()


@register.simple_tag(takes_context=True)
def notifications_question(context: template.Context) -> str:
    """Render the script that loads the page of a question or of its job again when its job waits for something else."""
    return script_element(context, "question")
