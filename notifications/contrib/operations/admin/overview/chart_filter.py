"""The queue and task of the charts, by the address of the overview."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext as _

from notifications.contrib.operations.admin.overview.history import PERIODS
from notifications.contrib.operations.statistics import reading
from notifications.db.clock import estimated_database_now
from notifications.db.unavailable import UNAVAILABLE
from notifications.models import Job
from notifications.problems import log_database_error

#: Queues with their tasks that can be chosen from. Others can be named in the address.
MAX_NAMES = 500
#: The parameters of the address, with the fields that they are values of.
FIELDS = {"queue": "queue_name", "task": "task_path"}


def read_selection(request: HttpRequest) -> dict[str, str]:
    """Return the queue and task that the address names, without one that none can have, of which a message tells."""
    selection = {}
    for name, field in FIELDS.items():
        if not (value := request.GET.get(name, "").strip()):
            continue
        if "\0" in value or len(value) > (Job._meta.get_field(field).max_length or 0):
            text = _("The charts are of all jobs, because no queue or task can have the name in the address.")
            messages.warning(request, text)
            continue
        selection[name] = value
    return selection


def choices(period: str, selection: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of queues and tasks that can be chosen, for the template: those of jobs that ended."""
    try:
        names = reading.read_names(PERIODS[period].length, now=estimated_database_now(), limit=MAX_NAMES)
    except UNAVAILABLE as exc:
        log_database_error(exc)
        names = []
    queues, tasks = ({pair[number] for pair in names} for number in range(2))
    return {
        "queue_choices": sorted(queues | {selection.get("queue", "")} - {""}),
        "task_choices": sorted(tasks | {selection.get("task", "")} - {""}),
    }
