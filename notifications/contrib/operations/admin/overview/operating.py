"""What the overview changes: pauses queues, quiets and stops workers, acknowledges alerts, retries groups of failures.

A page asks before workers end, and before jobs are retried, which a job does as for lists of jobs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times
from notifications.admin import page_context
from notifications.admin.confirmation import question
from notifications.contrib.operations.admin import bulk_changes
from notifications.contrib.operations.admin.overview import failures
from notifications.contrib.operations.admin.overview.processes import (
    request_of_all_workers,
    request_of_worker,
)
from notifications.contrib.operations.alerts.evaluation import acknowledge
from notifications.contrib.operations.broadcasts import AffectedUsers, Message, sign_audience
from notifications.contrib.operations.incidents.reading import find_incident
from notifications.contrib.operations.models import Alert
from notifications.contrib.operations.periods import MAX_RANGE_AGE
from notifications.db import database, database_now
from notifications.exceptions import NotificationsError
from notifications.extension import hooks
from notifications.jobs import JobFilter
from notifications.management import pause_queue
from notifications.models import Worker, parse_id

#: What each change needs besides the permission to view the overview.
PERMISSIONS = {
    "queue": "notifications.change_queue",
    "worker": "notifications.change_worker",
    "alert": "notifications_operations.change_alert",
}
#: What may be requested of a worker, by the name of the button, and what the log of changes says of it.
REQUESTS: dict[str, tuple[Any, str]] = {
    "quiet": (Worker.Request.QUIET, "Quieted."),
    "stop": (Worker.Request.STOP, "Stopped."),
    "resume": ("", "Resumed."),
}
FOLDER = "admin/notifications_operations/overview"
#: What a form has in place of the id of a worker.
ALL_WORKERS = "all"
#: How long ago the begin of a group may be that is retried: the longest period, and the time that a page is open.
MAX_RETRY_AGE = MAX_RANGE_AGE + timedelta(days=1)
#: Times are stored in microseconds.
RESOLUTION = timedelta(microseconds=1)
#: The level and text of a message, or the texts of a question that is asked before the change.
Change = tuple[int, str, dict[str, Any] | None]


def permitted_changes(request: HttpRequest) -> set[str]:
    return {kind for kind, permission in PERMISSIONS.items() if request.user.has_perm(permission)}


def respond(model_admin: Any, request: HttpRequest, kind: str, *, overview_url: str) -> HttpResponse:
    """Make a change that a POST requests, and return to the overview; or ask first, before workers end."""
    if kind not in permitted_changes(request):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    change = {"queue": _change_queue, "worker": _change_worker, "alert": _acknowledge_alert}[kind]
    level, text, question = change(model_admin, request)
    if question is not None:
        context = {**page_context(model_admin, request), "overview_url": overview_url, **question}
        return TemplateResponse(request, f"{FOLDER}/stop.html", context)
    model_admin.message_user(request, text, level)
    return redirect(overview_url)


def _change_queue(model_admin: Any, request: HttpRequest) -> Change:
    name, action = request.POST.get("name", ""), request.POST.get("action")
    try:
        if "\0" in name or action not in ("pause", "resume"):
            raise ValueError(_("This change is unknown. Choose one on this page."))
        queue = pause_queue(name, is_paused=action == "pause")
    except ValueError as exc:
        return messages.ERROR, str(exc), None
    log, text = {
        "pause": ("Paused.", _("The queue %(name)s is paused. Jobs that run continue.")),
        "resume": ("Resumed.", _("The queue %(name)s is resumed.")),
    }[action]
    model_admin.log_change(request, queue, log)
    return messages.SUCCESS, text % {"name": name}, None


def _change_worker(model_admin: Any, request: HttpRequest) -> Change:
    action, id = str(request.POST.get("action", "")), request.POST.get("id", "")
    if action in REQUESTS and id == ALL_WORKERS:
        return _change_all_workers(model_admin, request, action)
    worker = Worker.objects.using(database()).filter(pk=parse_id(id)).first()
    if worker is None or action not in REQUESTS:
        return messages.WARNING, _("The worker has ended already, or takes no requests."), None
    if action == "stop" and "confirm" not in request.POST:
        title = _("Stop the worker on %(host)s?") % {"host": worker.host}
        return messages.INFO, "", {"title": title, "id": worker.pk, "action": action}
    stored, log = REQUESTS[action]
    if not request_of_worker(worker.pk, stored):
        return messages.WARNING, _("The worker has ended already, or takes no requests."), None
    text = {
        "stop": _("The worker on %(host)s is stopping."),
        "quiet": _("The worker on %(host)s starts no more jobs within a few seconds."),
        "resume": _("The worker on %(host)s starts jobs again within a few seconds."),
    }[action]
    model_admin.log_change(request, worker, log)
    return messages.SUCCESS, text % {"host": worker.host}, None


def _change_all_workers(model_admin: Any, request: HttpRequest, action: str) -> Change:
    if action != "resume" and "confirm" not in request.POST:
        title = {"stop": _("Stop all workers?"), "quiet": _("Quiet all workers?")}[action]
        return messages.INFO, "", {"title": title, "id": ALL_WORKERS, "action": action}
    stored, log = REQUESTS[action]
    workers = request_of_all_workers(stored)
    if not workers:
        return (
            messages.WARNING,
            _("No worker was changed. All have ended, or have this request already."),
            None,
        )
    for worker in workers:
        model_admin.log_change(request, worker, log)
    text = {
        "stop": ngettext("%(count)d worker is stopping.", "%(count)d workers are stopping.", len(workers)),
        "quiet": ngettext(
            "%(count)d worker starts no more jobs within a few seconds.",
            "%(count)d workers start no more jobs within a few seconds.",
            len(workers),
        ),
        "resume": ngettext(
            "%(count)d worker starts jobs again within a few seconds.",
            "%(count)d workers start jobs again within a few seconds.",
            len(workers),
        ),
    }[action]
    return messages.SUCCESS, text % {"count": len(workers)}, None


def _acknowledge_alert(model_admin: Any, request: HttpRequest) -> Change:
    text = request.POST.get("id", "")
    id = int(text) if text.isdecimal() and len(text) < 19 else 0
    if not acknowledge(id, by=request.user.get_username()):
        return messages.WARNING, _("The alert is over, or acknowledged already."), None
    model_admin.log_change(request, Alert.objects.using(database()).get(pk=id), "Acknowledged.")
    return messages.SUCCESS, _("The alert is acknowledged."), None


def respond_to_retry(model_admin: Any, request: HttpRequest, *, overview_url: str) -> HttpResponse:
    """Ask whether the jobs of a group, or of all, are to be queued again; with a POST that confirms it, begin that."""
    if (found := _read_group(model_admin, request)) is None:
        return redirect(overview_url)
    group, since, until = found
    response: HttpResponse | None = None
    shown = shows_deliveries(request)
    count, is_capped = failures.count_jobs(since, group, until, with_deliveries=shown)
    if count and request.method == "POST" and "confirm" in request.POST:
        of_group = _conditions(group, since, until, with_deliveries=shown).until("retry", times.now())
        known_count = None if is_capped else count
        response = bulk_changes.begin(model_admin, request, "retry", of_group, known_count)
    elif count:
        newer, has_more = failures.count_jobs(until + RESOLUTION, group, with_deliveries=shown)
        context = {
            **page_context(model_admin, request),
            "title": question("retry", count, is_partial=is_capped),
            "group": group,
            "since": since,
            "until": until,
            "newer": f"{newer}+" if has_more else str(newer or ""),
            "newer_count": newer,
            "with_deliveries": shown,
            "overview_url": overview_url,
        }
        response = TemplateResponse(request, f"{FOLDER}/retry.html", context)
    else:
        text = _("No job was queued again, because none of them is failed any more.")
        model_admin.message_user(request, text, messages.WARNING)
    return response or redirect(overview_url)


def respond_to_tell(
    model_admin: Any, request: HttpRequest, *, overview_url: str, composer_url: str
) -> HttpResponse:
    """Open the composer of broadcasts with those whom an incident affects; with a POST tell them that it is over."""
    fields = request.POST if request.method == "POST" else request.GET
    if (incident := find_incident(fields.get("incident", ""))) is None:
        text = _("This failure is unknown. Choose one on this page.")
        model_admin.message_user(request, text, messages.ERROR)
        return redirect(overview_url)
    if request.method != "POST":
        message = Message.AGAIN if "again" in fields else Message.BEGIN
        signed = sign_audience(AffectedUsers.of(incident, message).value, request.user)
        return redirect(f"{composer_url}?{urlencode({'affected': signed})}")
    if incident.over_at is None:
        model_admin.message_user(request, _("This failure is not over yet."), messages.WARNING)
        return redirect(overview_url)
    value = AffectedUsers.of(incident, Message.END).value
    [send] = hooks.functions_of("operations", "send_message")
    try:
        count = send(value, request.user, model_admin.admin_site.name)
    except (NotificationsError, ImproperlyConfigured) as exc:  # too many jobs, or no engine
        model_admin.message_user(request, str(exc), messages.ERROR)
        return redirect(overview_url)
    if count:
        text = ngettext(
            "%(count)d person is told that it is over.", "%(count)d people are told that it is over.", count
        )
        model_admin.message_user(request, text % {"count": count}, messages.SUCCESS)
    else:
        text = _("They were told already that it is over.")
        model_admin.message_user(request, text, messages.WARNING)
    return redirect(overview_url)


def _read_group(model_admin: Any, request: HttpRequest) -> tuple[dict[str, str], datetime, datetime] | None:
    """Return the columns of a group of failures, none for all, since when, and until when they were counted.

    None: a message says what is wrong.
    """
    fields = request.POST if request.method == "POST" else request.GET
    group = {} if "all" in fields else {name: fields.get(name, "")[:500] for name in failures.COLUMNS}
    since, now = _parse_since(fields.get("since", "")), database_now()
    # PostgreSQL refuses NUL in texts.
    if since is None or group.get("task_path") == "" or any("\0" in value for value in group.values()):
        text = _("This group is unknown. Choose one on this page.")
        model_admin.message_user(request, text, messages.ERROR)
        return None
    return group, since, min(_parse_since(fields.get("until", "")) or now, now)


def shows_deliveries(request: HttpRequest) -> bool:
    """Return whether the page has the jobs that send messages too. The list of jobs has the same parameter."""
    return (request.POST if request.method == "POST" else request.GET).get("deliveries") == "shown"


def _conditions(
    group: dict[str, str], since: datetime, until: datetime, *, with_deliveries: bool
) -> JobFilter:
    return JobFilter(
        state="failed",
        task_path=group.get("task_path", ""),
        failure=f"{group['exception']} {group['location']}" if group else "",
        deliveries="" if with_deliveries else "hidden",
        finished_from=since,
        finished_until=until,
    )


def _parse_since(text: str) -> datetime | None:
    try:
        since = parse_datetime(text)
        if since is None or since.tzinfo is None or times.now() - since > MAX_RETRY_AGE:
            return None
        return times.as_utc(since)
    except (ValueError, OverflowError):  # no time, or one at the ends of the calendar
        return None
