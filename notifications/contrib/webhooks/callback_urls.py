"""The request header ``Callback-URL``: what is called when the job of the request ends. ``calling.py`` calls it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.utils.translation import gettext

from notifications.conf import settings
from notifications.contrib.webhooks.handlers import load_handlers
from notifications.contrib.webhooks.models import JobCallback
from notifications.db.bulk import lock_query
from notifications.db.transactions import database
from notifications.models import Job
from notifications.problems import Problem
from notifications.states import ACTIVE
from notifications.validators import MAX_URL_LENGTH

HEADER = "Callback-URL"
#: Visible ASCII without a comma, by which servers join repeated headers.
_ONE_URL = re.compile(rf"[\x21-\x2b\x2d-\x7e]{{1,{MAX_URL_LENGTH}}}")


def read_callback_url(request: Any) -> str:
    """Return the URL that the request has sent, empty if there is none.

    ``request`` may be one of Django REST framework. Raises Problem 400 for what is not one URL, and 422 for one that is
    not allowed.
    """
    value = request.headers.get(HEADER)
    if value is None:
        return ""
    value = value.strip(" \t")  # not part of a header's value, but some servers leave them
    if not _ONE_URL.fullmatch(value):
        raise Problem(
            400,
            f"{HEADER} must be one URL of at most {MAX_URL_LENGTH} visible ASCII characters. Write a comma in it as "
            "%2C.",
            field=HEADER,
        )
    if load_handlers().callback is None:
        raise _refused(
            "this site calls no URLs. Send the request without it, and request the job's URL instead"
        )
    from notifications.outbound.guard import Forbidden  # with aiohttp, in processes that need it only

    try:
        check_callback_url(value)
    except Forbidden as exc:
        raise _refused(str(exc)) from exc
    return str(value)


def _refused(reason: str) -> Problem:
    return Problem(422, f"{HEADER} is refused: {reason}.", field=HEADER)


def check_callback_url(url: str) -> None:
    """Raise ``Forbidden`` for a URL that is not of one of ``CALLBACK_ORIGINS``, or that may not be called."""
    from notifications.outbound.guard import Forbidden, check_target, parse

    target = parse(url)
    if target.origin not in {parse(origin).origin for origin in settings.CALLBACK_ORIGINS}:
        raise Forbidden(gettext("its scheme, host and port are not among those that this site allows"))
    check_target(target)


def store_url(job: Job, url: str) -> None:
    """Store the URL of a job that this transaction has enqueued, or found, unless it has one or has ended."""
    # Its end locks the row before it looks for a URL, so it either finds this one, or is found here.
    rows = lock_query(Job.objects.using(database()).filter(pk=job.pk), skip_locked=False)
    if rows.values_list("state", flat=True).first() in ACTIVE:
        JobCallback.objects.using(database()).bulk_create(
            [JobCallback(job=job.pk, url=url)], ignore_conflicts=True
        )


def url_of(job: UUID) -> str:
    """Return the URL that is called when a job ends, empty if there is none."""
    rows = JobCallback.objects.using(database()).filter(job=job)
    return rows.values_list("url", flat=True).first() or ""


def read_urls(jobs: Iterable[UUID]) -> dict[UUID, str]:
    """Return the URLs of those of these jobs that have one, whose rows are locked. No query where callbacks are off."""
    if load_handlers().callback is None:
        return {}
    rows = JobCallback.objects.using(database()).filter(job__in=list(jobs))
    return dict(rows.values_list("job", "url"))
