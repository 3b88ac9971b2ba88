"""Decorators for the views of the API."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from notifications.http.access import check_request
from notifications.http.background_requests import background_view, leave_session_unsaved
from notifications.problems import error_response, exceptions_as_problems

View = Callable[..., HttpResponse]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def api_view(method: str) -> Callable[[View], View]:
    """Make a view part of the API: its errors are problem documents. ``method`` as in ``check_request``."""

    def decorate(view: View) -> View:
        @csrf_exempt  # check_request checks it, after the user: a signed-out client gets 401, not 403
        @wraps(view)
        @exceptions_as_problems
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            check_request(request, method)
            return view(request, *args, **kwargs)

        return exempt_from_project(background_view(wrapped))

    return decorate


def async_api_view(view: AsyncView) -> AsyncView:
    """Make an async view part of the API. The view itself calls ``check_request``, in its thread for the database."""

    @csrf_exempt
    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return leave_session_unsaved(request, await view(request, *args, **kwargs))
        except Exception as exc:
            return leave_session_unsaved(request, error_response(exc))

    return exempt_from_project(wrapped)


def leave_out_of_log(view: View) -> View:
    """Make Django log no address of a response of this view with an error: the address is a permission."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response._has_been_logged = True  # type: ignore[attr-defined]  # see django.utils.log.log_response()
        return response

    return wrapped


def exempt_from_project(view: Any) -> Any:
    """Exempt a view from ``ATOMIC_REQUESTS`` and ``LoginRequiredMiddleware`` of the project."""
    view._non_atomic_requests = set(connections)
    view.login_required = False
    return view
