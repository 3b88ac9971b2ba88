"""Check whether a request to the API is allowed: user, method, media type, size and CSRF token."""

from __future__ import annotations

from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.translation import gettext

from notifications.http import csrf
from notifications.http.authentication import authenticate, is_authenticated_without_session
from notifications.http.negotiation import preferred_media_type
from notifications.http.parsing import body_errors_as_problems, check_content_length
from notifications.problems import Problem
from notifications.realtime.auth import page_user


def check_request(request: HttpRequest, method: str, media_type: str = "application/json") -> None:
    """Check a request to a view that takes ``method``, one or ``"GET, POST"``, and returns ``media_type``.

    GET takes HEAD too.
    Raises Problem: 401, 405, 406, 400, 413 or 403, the first that applies.
    """
    authenticate(request)
    if not is_signed_in(request):
        raise Problem(401, gettext("You are not signed in. Sign in and try again."))
    if not page_user.is_page_of(request.META.get("QUERY_STRING", ""), request.user.pk):
        raise Problem(401, gettext("A different user has signed in since this page was loaded. Reload it."))
    allow = method.replace("GET", "GET, HEAD")
    if request.method not in allow.split(", "):
        use = method.replace(", ", " or ")
        raise Problem(405, f"{request.method} is not allowed. Use {use}.", headers={"Allow": allow})
    if request.headers.get("Accept") and preferred_media_type(request, [media_type]) is None:
        raise Problem(
            406,
            f"The response is available as {media_type} only. Accept {media_type} or */*, or omit Accept.",
        )
    if request.method not in ("GET", "HEAD"):
        check_content_length(request)
        if not is_authenticated_without_session(request):
            _check_csrf_token(request)


def is_signed_in(request: HttpRequest) -> bool:
    """Return whether the request has an authenticated user."""
    user = getattr(request, "user", None)
    try:
        return user is not None and user.is_authenticated
    except (ValueError, DataError):  # a session key with a NUL, which PostgreSQL refuses
        return False


def _check_csrf_token(request: HttpRequest) -> None:
    middleware = _CsrfMiddleware(lambda request: HttpResponse())
    middleware.process_request(request)
    with body_errors_as_problems():  # the token may be a field of a form
        middleware.process_view(request, None, (), {})


class _CsrfMiddleware(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        raise Problem(403, f"{reason} {csrf.remedy(reason)}")
