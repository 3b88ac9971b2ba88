"""Pages that work without JavaScript: the inbox, and a job that has no page of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.db import InterfaceError, OperationalError, connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from notifications import serializers
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.jobs.transitions import manual
from notifications.models import Job
from notifications.problems import log_database_error
from notifications.realtime.reader import number_first
from notifications.streams import pages
from notifications.streams.inbox import mark
from notifications.streams.marking import mark_all_read, pending_reads
from notifications.validators import INTEGER

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """Make a view a page of the app: for whoever is signed in, without a transaction around it, never stored.

    ``ATOMIC_REQUESTS`` and ``LoginRequiredMiddleware`` leave it alone.
    """
    protected = csrf_protect(view)

    @csrf_exempt  # checked below, after the user
    @wraps(view)
    @never_cache
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            if getattr(request, "user", None) and request.user.is_authenticated:
                return protected(request, *args, **kwargs)
        except (OperationalError, InterfaceError) as exc:
            log_database_error(exc)
            return _busy()
        asked = request.method in ("GET", "HEAD")
        return redirect_to_login(request.get_full_path() if asked else reverse("notifications:inbox"))

    wrapped._non_atomic_requests = set(connections)  # type: ignore[attr-defined]
    wrapped.login_required = False  # type: ignore[attr-defined]
    return wrapped


@page
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """List my notifications, newest first."""
    user = request.user.pk
    after = _number(request.GET["after"]) if "after" in request.GET else None
    number_first([user])
    here = pages.read_stream_position(user)
    context = {
        "notifications_position": here,
        "here": here,
        "after": after,
        "is_being_read": bool(pending_reads(user)),
        "page": pages.read_inbox_page(user, here.seq, after),
    }
    return render(request, "notifications/inbox.html", context)


@page
@require_POST
def mark_read(request: HttpRequest) -> HttpResponse:
    """Mark as read what the form names: everything raised ``up_to``, or only the notification ``id``."""
    ids = [_uuid(value) for value in request.POST.getlist("id")[:200]]
    up_to = _number(request.POST.get("up_to", ""))
    if ids:
        mark(request.user.pk, "read", up_to, ids)
    else:
        mark_all_read(request.user.pk, up_to)
    query = f"?after={_number(request.POST['after'])}" if request.POST.get("after") else ""
    return HttpResponseRedirect(reverse("notifications:inbox") + query, status=303)


@page
@require_safe
def job(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show a job of mine: how far it is, and what came out."""
    user = request.user.pk
    number_first([user])
    here = pages.read_stream_position(user)
    mine = _of_mine(request, id)
    context = {
        "notifications_position": here,
        "job": mine,
        "is_tried_again": mine.state in manual.RETRYABLE_STATES,
        "error": serializers.job_error(mine),
        "result": _pretty(mine.result),
    }
    return render(request, "notifications/job.html", context)


@page
@require_POST
def cancel(request: HttpRequest, id: UUID) -> HttpResponse:
    """Cancel a job of mine, and go to where it is shown."""
    mine = _of_mine(request, id)
    manual.cancel([id], by=request.user.pk)
    return _to_job(mine)


@page
@require_POST
def retry(request: HttpRequest, id: UUID) -> HttpResponse:
    """Have a job of mine tried again, and go to where it is shown."""
    mine = _of_mine(request, id)
    try:
        manual.retry([id])
    except TooManyJobs:
        words = gettext("You have too many jobs that are not done. Go back and wait until some are.")
        return HttpResponse(
            words, status=429, content_type="text/plain; charset=utf-8", headers={"Retry-After": "10"}
        )
    return _to_job(mine)


def _of_mine(request: HttpRequest, id: UUID) -> Job:
    mine = Job.objects.using(database()).filter(pk=id, user=request.user.pk).first()
    if mine is None:
        raise Http404("There is no such job.")
    return mine


def _to_job(job: Job) -> HttpResponse:
    """To the job's own address in this site, or to its page here."""
    here = job.url if job.url.startswith("/") else reverse("notifications:job", args=[job.id])
    return HttpResponseRedirect(here, status=303)


def _busy() -> HttpResponse:
    """Plain text: a project's own frame would ask the database again."""
    words = gettext("The database cannot take this now. Go back and try again in a moment.")
    return HttpResponse(
        words, status=503, content_type="text/plain; charset=utf-8", headers={"Retry-After": "2"}
    )


def _pretty(text: str | None) -> str:
    """The result to be read by a person; nothing for a task that returns nothing."""
    try:
        value = None if text is None else json.loads(text)
    except (ValueError, RecursionError):  # not written by a task: shown as it is
        value = text
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 17) or int(text) > INTEGER:
        raise BadRequest("A position is a whole number.")
    return int(text)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise BadRequest("An id is a UUID.") from exc
