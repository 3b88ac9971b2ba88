"""Error responses as ``application/problem+json`` (RFC 9457), and as a page for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.html import format_html
from django.utils.translation import get_language, get_language_bidi, gettext

from notifications.db.outages import is_own_outage
from notifications.db.unavailable import (
    OUTAGES,
    is_no_thread,
    log_if_not_migrated,
)
from notifications.extension.log_throttle import count_for_log, is_log_due

logger = logging.getLogger("notifications")

R = TypeVar("R", bound=HttpResponseBase)

#: Request headers on which responses depend.
VARY = ("Accept", "Cookie", "Prefer")
#: Seconds after which a client retries when the database or the server was not available.
DATABASE_RETRY_SECONDS = 2


class Problem(Exception):
    """An error response. ``detail`` says what is wrong and how to fix it.

    ``field``
        The invalid parameter.
    ``errors``
        What is wrong with each of several, by name.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str = "",
        errors: Mapping[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or ({field: detail} if field else {})
        self.headers = headers or {}

    def response(self) -> HttpResponse:
        """Return the problem document with its status and headers."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [{"field": field, "detail": detail} for field, detail in self.errors.items()]
        response = HttpResponse(json.dumps(body), content_type="application/problem+json", status=self.status)
        for name, value in self.headers.items():
            response[name] = value
        return prevent_caching(response)


#: The classes of all errors for which ``error_response()`` may know a document.
PROBLEMS = (Problem, SuspiciousOperation, BadRequest, *OUTAGES)


def prevent_caching(response: R) -> R:
    """Set ``Cache-Control: no-store`` and ``Vary``: every response belongs to one user and one moment."""
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, VARY)
    return response


def database_unavailable() -> Problem:
    """Return the problem of a database that is away or busy. A part of the request may have been stored."""
    return Problem(
        503,
        gettext("The database is not available. Try again in a moment."),
        headers={"Retry-After": str(DATABASE_RETRY_SECONDS)},
    )


def log_database_error(exc: Exception) -> None:
    """Log the error behind a 503. While the database is away, or without threads, each request would log the same."""
    if log_if_not_migrated(exc):
        return
    if is_no_thread(exc):
        if is_log_due("no thread"):
            logger.warning("Responded with 503 for lack of threads, which is logged once a minute: %s", exc)
    elif not isinstance(exc, Error):
        logger.warning("Responded with 503 after a database error: %s", exc, exc_info=exc)
    elif count := count_for_log("database error"):
        text = "Responded with 503 after a database error (%d times since the last such line): %s"
        logger.warning(text, count, " ".join(str(exc).split()))


def refuse_for_database(exc: Exception) -> HttpResponse:
    """Log the error of a request and return 503."""
    log_database_error(exc)
    return mark_as_logged(database_unavailable().response())


def mark_as_logged(response: R) -> R:
    """Make Django log no line for this response. Returns the response."""
    response._has_been_logged = True  # type: ignore[attr-defined]  # see django.utils.log.log_response()
    return response


def exceptions_as_problems(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Return a view whose exceptions become problem documents, as far as ``error_response`` knows them."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except PROBLEMS as exc:
            return error_response(exc)

    return wrapped


def error_response(exc: Exception) -> HttpResponse:
    """Return the problem document for an exception. Raises it again if there is none."""
    if isinstance(exc, Problem):
        return exc.response()
    if is_own_outage(exc):
        return refuse_for_database(exc)
    if isinstance(exc, SuspiciousOperation | BadRequest):  # for which Django would return an HTML page
        return Problem(400, "The request cannot be read. Send fewer and simpler parameters.").response()
    raise exc


def plain_page(heading: str, text: str, *, status: int, headers: Mapping[str, str]) -> HttpResponse:
    """Return a page in the active language for what no view can answer: a template of the project may use anything."""
    page = format_html(
        '<!doctype html><html lang="{}" dir="{}"><meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark"><title>{heading}</title>'
        '<body style="max-width: 40rem; margin: 3rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui">'
        "<h1>{heading}</h1><p>{}</p>",
        get_language(),
        "rtl" if get_language_bidi() else "ltr",
        text,
        heading=heading,
    )
    # Its own policy, which middleware keeps: that of a project may forbid its style.
    own = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return HttpResponse(page, status=status, headers={**headers, **own})
