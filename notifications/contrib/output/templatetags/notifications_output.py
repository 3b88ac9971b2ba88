"""``{% job_output %}``: what a job writes, on a page of the project."""

from __future__ import annotations

from typing import Any

from django import template

from notifications.contrib.output.pages import read_output_text

register = template.Library()


@register.inclusion_tag("notifications/output.html", takes_context=True)
def job_output(context: template.Context, job: Any) -> dict[str, Any]:
    """Render what a job of the user has written, and an element that appends what follows. ``job`` is one, or an id."""
    user = getattr(context.get("request"), "user", None)
    return {"output": read_output_text(user, job) if user is not None else None}
