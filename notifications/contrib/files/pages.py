"""What pages and commands show of the files of a job, and the links to the page of all files of a user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext

from notifications.contrib.files.models import ResultFile
from notifications.db import database, database_now
from notifications.models import Job
from notifications.times import format_time


def describe_expiry(moment: datetime, now: datetime) -> str:
    """Return a ``<time>`` element that says in how many days, hours or minutes a file expires, or that it has."""
    minutes = int((moment - now).total_seconds() // 60)
    if moment <= now:
        text = gettext("Expired")
    elif minutes >= 2 * 24 * 60:
        text = gettext("Expires in {count} days").format(count=minutes // (24 * 60))
    elif minutes >= 2 * 60:
        text = gettext("Expires in {count} h").format(count=minutes // 60)
    else:
        text = gettext("Expires in {count} min").format(count=max(minutes, 1))
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        format_time(moment),
        date_format(local, "DATETIME_FORMAT"),
        text,
    )


def _read_files(job: Job) -> list[ResultFile]:
    if not job.done:
        return []
    return list(ResultFile.objects.using(database()).filter(job=job.pk).order_by("name", "id"))


def may_download(row: ResultFile, user: Any) -> bool:
    """Return whether a user may download a file: its owner, and who has the permission that its task has named."""
    if row.user_id is not None and row.user_id == user.pk:
        return True
    return bool(row.permission) and bool(user.has_perm(row.permission))


def describe_for_page(job: Job, request: HttpRequest) -> dict[str, Any]:
    """Return the files of a job, each with whether it can still be downloaded, and until when."""
    now = database_now()
    return {
        "result_files": [
            (row, row.expires_at > now, describe_expiry(row.expires_at, now)) for row in _read_files(job)
        ]
    }


def describe_for_admin(job: Job, request: HttpRequest) -> dict[str, Any]:
    """Return the files of a job, each with whether the user of this request can download it."""
    now = database_now()
    return {
        "files": [
            (
                row,
                row.expires_at > now and may_download(row, request.user),
                describe_expiry(row.expires_at, now),
            )
            for row in _read_files(job)
        ]
    }


def describe_in_lines(job: Job) -> Iterator[str]:
    """Yield the lines of ``jobs show``."""
    for number, row in enumerate(_read_files(job)):
        if not number:
            yield ""
        yield f"File: {row.name}, {row.size:,} bytes, until {format_time(row.expires_at)}."


def describe_as_json(job: Job) -> list[dict[str, Any]] | None:
    """Return what ``jobs show --json`` has."""
    files = [
        {
            "name": row.name,
            "size": row.size,
            "expires_at": format_time(row.expires_at),
            "url": reverse("notifications:file", args=[row.pk]),
        }
        for row in _read_files(job)
    ]
    return files or None


def list_links(page: str) -> Sequence[tuple[str, str]]:
    """Return the link to the files of the user, of the inbox and of preferences. See ``Extension.page_links()``."""
    is_shown = page in ("inbox", "preferences")
    return [(gettext("My files"), reverse("notifications:files"))] if is_shown else []
