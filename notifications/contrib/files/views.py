"""A download, and the page *My files*."""

from __future__ import annotations

import logging
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from notifications.contrib.files.models import ResultFile
from notifications.contrib.files.pages import describe_expiry, may_download
from notifications.contrib.files.sending import send
from notifications.db import database, database_now
from notifications.http import page_view, paginate
from notifications.inbox import job_path
from notifications.models import Job

logger = logging.getLogger("notifications")


@page_view
@require_safe
def file(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Send a file to a user who may download it now. Whose it is is asked each time.

    One that has expired, or that its storage has lost, is a page with status 410 that says so.
    """
    row = ResultFile.objects.using(database()).filter(pk=id).first()
    if row is None or not may_download(row, request.user):
        raise Http404("There is no such file.")
    if row.expires_at <= database_now():
        return _gone(request, row, gettext("This file has expired."))
    try:
        return send(row, request)
    except FileNotFoundError:
        logger.exception("A file is not in its storage: %s of job %s", row.path, row.job)
        return _gone(request, row, gettext("This file is no longer in the storage of this site."))


@page_view
@require_safe
def files_page(request: HttpRequest) -> HttpResponse:
    """List the files of the user that have not expired, the newest first."""
    now = database_now()
    rows = ResultFile.objects.using(database()).filter(user=request.user.pk, expires_at__gt=now)
    page = paginate(request, rows, ("created_at", "id"))
    titles = dict(
        Job.objects.using(database()).filter(pk__in={row.job for row in page.rows}).values_list("pk", "title")
    )
    files = [
        (row, describe_expiry(row.expires_at, now), titles.get(row.job, ""), job_path(row.job))
        for row in page.rows
    ]
    return render(request, "notifications/files_page.html", {"result_files": files, "links": page.links})


def _gone(request: HttpRequest, row: ResultFile, problem: str) -> HttpResponse:
    page = job_path(row.job) if row.user_id == request.user.pk else ""
    context = {"file": row, "problem": problem, "page": page}
    return render(request, "notifications/file_gone.html", context, status=410)
