"""What the overview changes: pauses and resumes queues, quiets and stops workers, acknowledges alerts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from notifications.db.transactions import database
from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming import queues
from notifications.models import Alert, Queue, Worker
from notifications.operations.alerts.episodes import acknowledge
from notifications.operations.worker_requests import request_of_worker
from notifications.problems import log_database_error
from notifications.templatetags.notifications import csp_nonce

#: What each change needs besides the permission to view the overview.
PERMISSIONS = {
    "queue": "notifications.change_queue",
    "worker": "notifications.change_worker",
    "alert": "notifications.change_alert",
}
#: What may be requested of a worker, by the name of the button.
REQUESTS: dict[str, Any] = {"quiet": Worker.Request.QUIET, "stop": Worker.Request.STOP, "resume": ""}


def permitted_changes(request: HttpRequest) -> set[str]:
    """Return the kinds of rows that the user may change."""
    return {kind for kind, permission in PERMISSIONS.items() if request.user.has_perm(permission)}


def respond(model_admin: Any, request: HttpRequest, kind: str, *, overview_url: str) -> HttpResponse:
    """Make a change that a POST requests, and return to the overview; or ask first, before a worker is stopped."""
    if kind not in permitted_changes(request):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    change = {"queue": _change_queue, "worker": _change_worker, "alert": _acknowledge_alert}[kind]
    try:
        level, text, question = change(model_admin, request)
    except UNAVAILABLE as exc:
        log_database_error(exc)
        level, question = messages.ERROR, None
        text = _("The database is unavailable. Nothing was changed. Try again.")
    if question is not None:
        return _ask(model_admin, request, question, overview_url)
    model_admin.message_user(request, text, level)
    return redirect(overview_url)


#: The level and text of a message, or the worker that is to be stopped after a question.
Change = tuple[int, str, Worker | None]


def _change_queue(model_admin: Any, request: HttpRequest) -> Change:
    name, action = request.POST.get("name", ""), request.POST.get("action")
    try:
        if "\0" in name or action not in ("pause", "resume"):
            raise ValueError(_("This change is unknown. Choose one on this page."))
        (queues.pause if action == "pause" else queues.resume)(name)
    except ValueError as exc:
        return messages.ERROR, str(exc), None
    log, text = {
        "pause": ("Paused.", _("The queue %(name)s is paused. Jobs that run continue.")),
        "resume": ("Resumed.", _("The queue %(name)s is resumed.")),
    }[action]
    # With ATOMIC_REQUESTS its row is written after this request.
    model_admin.log_change(request, Queue(name=name), log)
    return messages.SUCCESS, text % {"name": name}, None


def _change_worker(model_admin: Any, request: HttpRequest) -> Change:
    action = str(request.POST.get("action", ""))
    worker = _find_worker(request.POST.get("id", ""))
    if worker is None or action not in REQUESTS:
        return messages.WARNING, _("The worker has ended already, or takes no requests."), None
    if action == "stop" and "confirm" not in request.POST:
        return messages.INFO, "", worker
    if not request_of_worker(worker.pk, REQUESTS[action]):
        return messages.WARNING, _("The worker has ended already, or takes no requests."), None
    log, text = {
        "stop": ("Stopped.", _("The worker on %(host)s is stopping.")),
        "quiet": ("Quieted.", _("The worker on %(host)s starts no more jobs within a few seconds.")),
        "resume": ("Resumed.", _("The worker on %(host)s starts jobs again within a few seconds.")),
    }[action]
    model_admin.log_change(request, worker, log)
    return messages.SUCCESS, text % {"host": worker.host}, None


def _acknowledge_alert(model_admin: Any, request: HttpRequest) -> Change:
    text = request.POST.get("id", "")
    id = int(text) if text.isdecimal() and len(text) < 19 else 0
    if not acknowledge(id, by=request.user.get_username()):
        return messages.WARNING, _("The alert is over, or acknowledged already."), None
    model_admin.log_change(request, Alert.objects.using(database()).get(pk=id), "Acknowledged.")
    return messages.SUCCESS, _("The alert is acknowledged."), None


def _find_worker(text: str) -> Worker | None:
    try:
        id = UUID(text)
    except ValueError:
        return None
    return Worker.objects.using(database()).filter(pk=id).first()


def _ask(model_admin: Any, request: HttpRequest, worker: Worker, overview_url: str) -> TemplateResponse:
    request.current_app = model_admin.admin_site.name  # type: ignore[attr-defined]
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Stop the worker on %(host)s?") % {"host": worker.host},
        "opts": model_admin.opts,
        "breadcrumbs_are_list": django.VERSION >= (6, 1),
        "worker": worker,
        "overview_url": overview_url,
        "nonce": csp_nonce({}, request),
    }
    return TemplateResponse(request, "admin/notifications/overview/stop.html", context)
