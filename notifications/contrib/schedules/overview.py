"""The section of the overview that shows the schedules."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest

from notifications.admin.mixins import list_url
from notifications.db.transactions import database
from notifications.models import Schedule

#: The schedules that are read at most: those that are due next.
MAX_SCHEDULES = 100


def read_section(model_admin: ModelAdmin[Any], request: HttpRequest) -> dict[str, Any]:
    """Return the template and the context of the section: those with a problem first, then by their next tick."""
    rows = Schedule.objects.using(database()).order_by("next_tick", "name")[:MAX_SCHEDULES]
    return {
        "template": "admin/notifications/schedule/overview.html",
        "schedules": sorted(rows, key=lambda schedule: not schedule.problem),
        "url": list_url(model_admin, request, Schedule),
    }
