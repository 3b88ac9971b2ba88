"""The retry of a group of failures: a page that asks first, and the job that does it, as for lists of jobs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import django
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from notifications import times
from notifications.admin.confirmation import question
from notifications.contrib.operations import bulk_changes as changing
from notifications.contrib.operations.admin import bulk_changes
from notifications.contrib.operations.admin.overview import failures
from notifications.contrib.operations.matching import JobFilter, failure_of
from notifications.db.unavailable import UNAVAILABLE
from notifications.problems import log_database_error
from notifications.templatetags.notifications import csp_nonce

#: How long ago the begin of a group may be that is retried: the longest period, and the time that a page is open.
MAX_RETRY_AGE = timedelta(days=8)


def respond(model_admin: Any, request: HttpRequest, *, overview_url: str) -> HttpResponse:
    """Ask whether the jobs of a group, or of all, are to be queued again; with a POST that confirms it, begin that."""
    fields = request.POST if request.method == "POST" else request.GET
    group = {} if "all" in fields else {name: fields.get(name, "")[:500] for name in failures.COLUMNS}
    since = _parse_since(fields.get("since", ""))
    # PostgreSQL refuses NUL in texts.
    if since is None or group.get("task_path") == "" or any("\0" in value for value in group.values()):
        text = _("This group is unknown. Choose one on this page.")
        model_admin.message_user(request, text, messages.ERROR)
        return redirect(overview_url)
    response: HttpResponse | None = None
    try:
        count, is_capped = failures.count_jobs(since, group)
        if count and request.method == "POST" and "confirm" in request.POST:
            conditions = changing.conditions_until("retry", _conditions(group, since), times.now())
            number = None if is_capped else count
            response = bulk_changes.begin(model_admin, request, "retry", conditions, number)
        elif count:
            response = _ask(model_admin, request, group, since, count, is_capped, overview_url)
        else:
            text = _("No job was queued again, because none of them is failed any more.")
            model_admin.message_user(request, text, messages.WARNING)
    except UNAVAILABLE as exc:
        log_database_error(exc)
        text = _("The database is unavailable. No job was queued again. Try again.")
        model_admin.message_user(request, text, messages.ERROR)
    return response or redirect(overview_url)


def _ask(
    model_admin: Any,
    request: HttpRequest,
    group: dict[str, str],
    since: datetime,
    count: int,
    is_capped: bool,
    overview_url: str,
) -> TemplateResponse:
    request.current_app = model_admin.admin_site.name  # type: ignore[attr-defined]
    context = {
        **model_admin.admin_site.each_context(request),
        "title": question("retry", count, is_partial=is_capped),
        "opts": model_admin.opts,
        "breadcrumbs_are_list": django.VERSION >= (6, 1),
        "group": group,
        "since": since,
        "overview_url": overview_url,
        "nonce": csp_nonce({}, request),
    }
    return TemplateResponse(request, "admin/notifications_operations/overview/retry.html", context)


def _conditions(group: dict[str, str], since: datetime) -> JobFilter:
    failure = failure_of(group["exception"], group["location"]) if group else ""
    task_path = group.get("task_path", "")
    return JobFilter(state="failed", task_path=task_path, failure=failure, finished_from=times.as_utc(since))


def _parse_since(text: str) -> datetime | None:
    try:
        since = parse_datetime(text)
    except ValueError:
        return None
    if since is None or since.tzinfo is None or times.now() - since > MAX_RETRY_AGE:
        return None
    return since
