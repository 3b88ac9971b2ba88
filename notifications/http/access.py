"""Whether a request is allowed, and the decorators of views, which check that: users, CSRF tokens, sessions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings
from django.db import DataError, connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from notifications import paths, serializers
from notifications.db.outages import is_own_outage
from notifications.db.unavailable import OUTAGES
from notifications.http.authentication import authenticate, needs_csrf_token
from notifications.http.negotiation import preferred_media_type
from notifications.http.parsing import body_errors_as_problems, check_content_length
from notifications.problems import (
    DATABASE_RETRY_SECONDS,
    PROBLEMS,
    Problem,
    error_response,
    exceptions_as_problems,
    log_database_error,
    mark_as_logged,
    plain_page,
    prevent_caching,
)

View = Callable[..., HttpResponse]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]

#: What marks requests that no person made, such as those of an open page that follows a stream, in their query: an
#: ``EventSource`` cannot send headers.
BACKGROUND_MARK = "background=1"


def check_request(request: HttpRequest, method: str, media_type: str = "application/json") -> None:
    """Check a request to a view that takes ``method``, one or ``"GET, POST"``, and returns ``media_type``.

    GET takes HEAD too.
    Raises Problem: 401, 405, 406, 400, 413 or 403, the first that applies.
    """
    authenticate(request)
    _check_user(request)
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
        if needs_csrf_token(request):
            _check_csrf_token(request)


def _check_user(request: HttpRequest) -> None:
    if not is_signed_in(request):
        raise Problem(401, gettext("You are not signed in. Sign in and try again."))
    if not paths.is_page_of(request.META.get("QUERY_STRING", ""), request.user.pk):
        raise Problem(401, gettext("A different user has signed in since this page was loaded. Reload it."))


def _check_csrf_token(request: HttpRequest) -> None:
    middleware = _CsrfMiddleware(lambda request: HttpResponse())
    middleware.process_request(request)
    with body_errors_as_problems():  # the token may be a field of a form
        middleware.process_view(request, None, (), {})


def is_signed_in(request: HttpRequest) -> bool:
    """Return whether the request has a user. Reads the session, on a thread for the database."""
    user = getattr(request, "user", None)
    try:
        return user is not None and user.is_authenticated
    except (ValueError, DataError):  # a session key with a NUL, which PostgreSQL refuses
        return False


def api_view(method: str = "") -> Callable[[Any], Any]:
    """Make a view part of the API: its errors are problem documents. ``method`` as in ``check_request``.

    An async view takes none: it checks the request itself, in its thread for the database, as a ``Feed`` does.
    Raises TypeError for an async view with a method, and for a sync one without.
    """

    def decorate(view: Any) -> Any:
        is_async = iscoroutinefunction(view)
        if is_async == bool(method):
            raise TypeError(f"api_view({method!r}): only a sync view takes a method, and needs one.")
        if is_async:
            return async_api_view(view)

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
        except PROBLEMS as exc:
            return leave_session_unsaved(request, error_response(exc))

    return exempt_from_project(wrapped)


def page_view(view: View) -> View:
    """Make a view a page for signed-in users, which is never cached. Others are redirected to ``LOGIN_URL``.

    CSRF tokens are checked, ``ATOMIC_REQUESTS`` does not apply, a database that is away is a page with 503, and a
    ``Problem`` that the view raises is shown as text.
    A script that sends a form of the page accepts JSON in place of HTML. It gets 2xx only if the view has done what the
    form says: ``{"location": URL}`` in place of a redirect, 401 in place of that to ``LOGIN_URL``, and errors as
    problem documents.
    """
    protected = csrf_protect(view)

    @exceptions_as_problems
    def answer_script(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        _check_user(request)
        _check_csrf_token(request)
        response = view(request, *args, **kwargs)
        return json_response({"location": response.url}) if response.status_code in (302, 303) else response

    @csrf_exempt  # ``protected`` checks it, after the user: a signed-out user gets the login page, not 403
    @wraps(view)
    @never_cache
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if preferred_media_type(request, ["text/html", "application/json"]) == "application/json":
            return answer_script(request, *args, **kwargs)
        try:
            if getattr(request, "user", None) and request.user.is_authenticated:
                return protected(request, *args, **kwargs)
        except Problem as problem:
            # The project's base template would query the database again.
            headers = {"Content-Type": "text/plain; charset=utf-8", **problem.headers}
            return HttpResponse(problem.detail, status=problem.status, headers=headers)
        except OUTAGES as exc:
            if not is_own_outage(exc):
                raise
            log_database_error(exc)
            return database_unavailable_page()
        is_get = request.method in ("GET", "HEAD")
        # Each start would import the forms of Django's users.
        from django.contrib.auth.views import redirect_to_login

        return redirect_to_login(request.get_full_path() if is_get else reverse("notifications:inbox"))

    return exempt_from_project(background_view(wrapped))


def signed_view(view: View) -> Any:
    """Make a view one for everybody, as its address is the permission. It needs no cookie and no CSRF token.

    The address has a signature, which the view verifies. It is in no log of the app and in no ``Referer``, and crawlers
    leave it out. While the database is away a page says so, with 503, unless the view does it.
    """

    @csrf_exempt
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except OUTAGES as exc:
            if not is_own_outage(exc):
                raise
            log_database_error(exc)
            response = database_unavailable_page()
        response["Referrer-Policy"] = "no-referrer"
        response["X-Robots-Tag"] = "noindex"
        return mark_as_logged(prevent_caching(response))

    return exempt_from_project(wrapped)


def background_view(view: Callable[..., HttpResponseBase]) -> Any:
    """Apply ``leave_session_unsaved()`` to the responses of a view."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: Any = view(request, *args, **kwargs)
        if getattr(response, "is_rendered", True):
            return leave_session_unsaved(request, response)
        response.add_post_render_callback(partial(leave_session_unsaved, request))
        return response

    return wrapped


def leave_session_unsaved(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Have Django neither save the session nor send its cookie after a marked request that has not changed it.

    With ``SESSION_SAVE_EVERY_REQUEST`` such requests would prolong the session for as long as a page is open, and its
    user would never be signed out for being idle. Nor after a 503: Django reads when a session expires that it may
    save, which would fail by the same lack, and become a 500. Call it when ``request.user`` was read. Returns the
    response.
    """
    session: Any = getattr(request, "session", None)
    # Not by request.GET, which refuses a query with too many parameters.
    is_marked = BACKGROUND_MARK in request.META["QUERY_STRING"].split("&")
    is_refused = response.status_code == 503
    is_saved = session is not None and (session.modified or settings.SESSION_SAVE_EVERY_REQUEST)
    if is_saved and (is_refused or (is_marked and not session.modified)):
        # SessionMiddleware ignores a request without a session, and sets no Vary for it.
        del request.session
        patch_vary_headers(response, ["Cookie"])
    return response


def exempt_from_project(view: Any) -> Any:
    """Exempt a view from ``ATOMIC_REQUESTS`` and ``LoginRequiredMiddleware`` of the project."""
    view._non_atomic_requests = set(connections)
    view.login_required = False
    return view


def database_unavailable_page() -> HttpResponse:
    """Return 503 as a page, for an error that is logged already."""
    page = plain_page(
        gettext("Not available"),
        gettext("The database is not available. Go back and try again in a moment."),
        status=503,
        headers={"Retry-After": str(DATABASE_RETRY_SECONDS)},
    )
    return mark_as_logged(page)


def json_response(document: Any, *, status: int = 200) -> HttpResponse:
    """Return a document, or JSON text, as JSON that is not cached."""
    text = document if isinstance(document, str) else serializers.encode_json(document)
    return prevent_caching(HttpResponse(text, content_type="application/json", status=status))


def csrf_header_name() -> str:
    """Return the name of the request header for the token."""
    return settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-").title()


def readable_csrf_cookie_name() -> str:
    """Return the name of the cookie from which scripts can read the token, empty if they cannot."""
    return "" if settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY else settings.CSRF_COOKIE_NAME


def csrf_token_source() -> str:
    """Return a phrase that names where a program finds the token."""
    if settings.CSRF_USE_SESSIONS:
        return "the csrfmiddlewaretoken of a form"
    return f"the value of the cookie {settings.CSRF_COOKIE_NAME}"


def _csrf_remedy(reason: str) -> str:
    """Return the sentence that says how to fix a failed CSRF check. ``reason`` is Django's."""
    if reason.startswith(("Origin ", "Referer ")):
        return "Send the request from a page of this site, or of an origin in CSRF_TRUSTED_ORIGINS."
    return f"Send {csrf_token_source()} in the header {csrf_header_name()}."


class _CsrfMiddleware(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        raise Problem(403, f"{reason} {_csrf_remedy(reason)}")
