"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from notifications.db.threads import NoThread

logger = logging.getLogger("notifications")

R = TypeVar("R", bound=HttpResponseBase)

#: Headers of a request on which answers depend.
VARY = ("Accept", "Cookie", "Prefer")


class Problem(Exception):
    """An answer that is an error: ``status``, what is wrong and how to mend it, and the ``field`` that it is about."""

    def __init__(
        self, status: int, detail: str, *, field: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers or {}

    def response(self) -> HttpResponse:
        """Return the answer."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field:
            body["errors"] = [{"field": self.field, "detail": self.detail}]
        response = HttpResponse(json.dumps(body), content_type="application/problem+json", status=self.status)
        for name, value in self.headers.items():
            response[name] = value
        return private(response)


def private(response: R) -> R:
    """Say that an answer is nobody else's, and that no cache keeps it."""
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, VARY)
    return response


def busy() -> Problem:
    """Return the problem of a database that is away, or a row that somebody else holds. Some may be stored already."""
    return Problem(
        503, "The database cannot take this now. Try again in a moment.", headers={"Retry-After": "2"}
    )


def log_database_error(exc: Exception) -> None:
    """Say in the log why 503 is answered: it may be a table that is missing, and then no trying again helps."""
    logger.warning("503 is answered, because the database refused: %s", exc, exc_info=exc)


def answers_problems(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Turn ``Problem``, what cannot be read and a database that is away into answers."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except ANSWERED as exc:
            return answer_to(exc)

    return wrapped


def answer_to(exc: Exception) -> HttpResponse:
    """Return what answers one of ``ANSWERED``."""
    if isinstance(exc, Problem):
        return exc.response()
    if isinstance(exc, OperationalError | InterfaceError | NoThread):
        log_database_error(exc)
        return busy().response()
    return Problem(400, "The request cannot be read. Send fewer and plain parameters.").response()


#: Exceptions that are answers. What Django refuses by itself it would answer with a page.
ANSWERED = (Problem, OperationalError, InterfaceError, NoThread, SuspiciousOperation, BadRequest)
