"""Users of the app's own API who do not sign in by a session: ``NOTIFICATIONS["AUTHENTICATORS"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from notifications.conf import settings
from notifications.problems import Problem

_ATTRIBUTE = "_notifications_authenticated"


def authenticate(request: HttpRequest) -> None:
    """Set ``request.user`` to the user whom the first of the authenticators finds; once for each request.

    Without one, ``request.user`` stays that of the session. Raises Problem for credentials that are refused.
    """
    if hasattr(request, _ATTRIBUTE):
        return
    user = _find_user(request)
    setattr(request, _ATTRIBUTE, user is not None)
    if user is not None:
        if not user.is_active:
            raise Problem(401, gettext("You are not signed in. Sign in and try again."))
        request.user = user


def is_authenticated_without_session(request: HttpRequest) -> bool:
    """Return whether an authenticator has found the user. There is no CSRF check then: docs/how-to/frameworks.md."""
    return getattr(request, _ATTRIBUTE, False)


def make_check(request: HttpRequest) -> Callable[[], bool] | None:
    """Return a function that asks the authenticators again whether they accept the user of the request.

    It raises what they raise. None if no authenticator has found the user.
    """
    if not is_authenticated_without_session(request):
        return None
    pk = request.user.pk

    def is_accepted() -> bool:
        try:
            user = _find_user(request)
        except Problem as exc:
            if exc.status in (401, 403):
                return False
            raise
        return user is not None and user.is_active and user.pk == pk

    return is_accepted


def _find_user(request: HttpRequest) -> Any | None:
    return next((user for user in _find_users(request) if user is not None), None)


def _find_users(request: HttpRequest) -> Iterator[Any]:
    for entry in settings.AUTHENTICATORS:
        authenticator: Any = import_string(entry) if isinstance(entry, str) else entry
        yield (
            _call_class(authenticator, request) if isinstance(authenticator, type) else authenticator(request)
        )


def _call_class(authentication_class: Any, request: HttpRequest) -> Any:
    from rest_framework.authentication import SessionAuthentication
    from rest_framework.exceptions import APIException
    from rest_framework.request import Request

    if issubclass(authentication_class, SessionAuthentication):
        return None  # it would be exempt from the CSRF check; the session is asked in any case
    authentication = authentication_class()
    try:
        found = authentication.authenticate(Request(request))
    except APIException as exc:
        header = authentication.authenticate_header(request)
        headers = {"WWW-Authenticate": header} if header and exc.status_code == 401 else {}
        detail = exc.detail.get("detail", exc.default_detail) if isinstance(exc.detail, dict) else exc.detail
        raise Problem(exc.status_code, str(detail), headers=headers) from exc
    return found[0] if found else None
