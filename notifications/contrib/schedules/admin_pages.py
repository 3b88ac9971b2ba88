"""The pages of the admin on which staff make a schedule, and change one that is stored."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from notifications.admin import page_context
from notifications.contrib.schedules.admin_forms import ScheduleForm, TaskForm
from notifications.contrib.schedules.drafts import read_values
from notifications.contrib.schedules.errors import TooManySchedules
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.tasks import list_tasks
from notifications.contrib.schedules.texts import describe_timing, list_next_ticks
from notifications.db import database_now, retrying_atomic
from notifications.jobs import find_project_task

TEMPLATE = "admin/notifications_schedules/schedule/form.html"
#: Times that are shown before a schedule is stored.
TIMES_SHOWN = 5


def add(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Ask for a task, then for what a schedule of it says; then store it."""
    if not model_admin.has_add_permission(request):
        raise PermissionDenied
    chosen = TaskForm(request.GET if "task" in request.GET else None)
    context = {"title": _("Add schedule"), "task_form": chosen, "back_url": _list_url(model_admin)}
    if not chosen.is_valid():
        return _render(model_admin, request, {**context, "tasks": list_tasks()})
    task = chosen.cleaned_data["task"]
    form = ScheduleForm(task, None, data=request.POST if request.method == "POST" else None)
    context |= {"form": form, "task": task.module_path}
    return _store(model_admin, request, context, None)


def edit(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """Change what a stored schedule says."""
    row = model_admin.get_object(request, unquote(object_id))
    if row is None or not model_admin.has_edit_permission(request, row):
        raise PermissionDenied
    back_url = _page_url(model_admin, row.name)
    try:
        values = read_values(row)
        task = find_project_task(row.task_path)
    except (ImportError, ValueError) as exc:
        model_admin.message_user(request, str(exc), messages.ERROR)
        return HttpResponseRedirect(back_url)
    form = ScheduleForm(task, values, data=request.POST if request.method == "POST" else None)
    context = {"title": _("Change “%(title)s”") % {"title": row}, "back_url": back_url}
    return _store(model_admin, request, {**context, "form": form, "task": task.module_path}, row)


def _store(
    model_admin: Any, request: HttpRequest, context: dict[str, Any], row: Schedule | None
) -> HttpResponse:
    """Show the form, with the times that its values mean; or store it, if these were shown before."""
    form = context["form"]
    if form.is_valid():
        timing = form.draft.declaration.timing
        if form.cleaned_data["shown"] == str(timing):
            try:
                return _save(model_admin, request, form, row)
            except TooManySchedules as exc:
                form.add_error(None, str(exc))
        else:
            form.data = {**form.data.dict(), "shown": str(timing)}
        context["next_ticks"] = list_next_ticks(timing, database_now(), TIMES_SHOWN)
        context["timing"] = describe_timing(timing)
    return _render(model_admin, request, context)


def _save(model_admin: Any, request: HttpRequest, form: ScheduleForm, row: Schedule | None) -> HttpResponse:
    if row is None:
        # A form that is sent twice makes one schedule. The key has the user: another one's token does not make it.
        key = f"admin {request.user.pk} {form.cleaned_data['token']}"
        stored = retrying_atomic(partial(form.draft.insert, key))
        model_admin.log_addition(request, stored, "Added.")
        text = _("“%(title)s” was added.")
    else:
        changed = retrying_atomic(partial(form.draft.replace, row))
        if changed is None:
            text = _("“%(title)s” was changed or deleted meanwhile. Nothing was stored.")
            model_admin.message_user(request, text % {"title": row}, messages.ERROR)
            return HttpResponseRedirect(_list_url(model_admin))
        stored = changed
        model_admin.log_change(request, stored, "Changed.")
        text = _("“%(title)s” was changed.")
    model_admin.message_user(request, text % {"title": stored}, messages.SUCCESS)
    return HttpResponseRedirect(_page_url(model_admin, stored.name))


def _render(model_admin: Any, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    return TemplateResponse(request, TEMPLATE, {**page_context(model_admin, request), **context})


def _list_url(model_admin: Any) -> str:
    return reverse(f"{model_admin.admin_site.name}:notifications_schedules_schedule_changelist")


def _page_url(model_admin: Any, name: str) -> str:
    return reverse(
        f"{model_admin.admin_site.name}:notifications_schedules_schedule_change", args=[quote(name)]
    )
