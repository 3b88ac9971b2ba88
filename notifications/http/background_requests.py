"""Requests that no person made, such as those of an open page that follows a stream.

With ``SESSION_SAVE_EVERY_REQUEST`` they would prolong the session for as long as a page is open, and its user would
never be signed out for being idle.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

#: What marks such a request, in its query: an ``EventSource`` cannot send headers.
MARK = "background=1"


def leave_session_unsaved(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Have Django neither save the session nor send its cookie after a marked request that has not changed it.

    Call it when ``request.user`` was read. Returns the response.
    """
    session: Any = getattr(request, "session", None)
    # Not by request.GET, which refuses a query with too many parameters.
    is_marked = MARK in request.META["QUERY_STRING"].split("&") and settings.SESSION_SAVE_EVERY_REQUEST
    if is_marked and session is not None and not session.modified:
        # SessionMiddleware ignores a request without a session, and sets no Vary for it.
        del request.session
        patch_vary_headers(response, ["Cookie"])
    return response


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
