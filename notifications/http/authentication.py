"""Users of the app's own API who do not sign in by a session: ``NOTIFICATIONS["AUTHENTICATORS"]``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.translation import gettext

from notifications.compat import signature_of
from notifications.conf import WrongDeclaration, cached_until_changed, settings
from notifications.db.imports import CannotImport, import_path
from notifications.problems import Problem

logger = logging.getLogger("notifications")

#: Takes a request, and returns its user or None.
Authenticator = Callable[[HttpRequest], Any]

#: Schemes of ``Authorization`` whose credentials browsers repeat by themselves, for the form of another site too.
AMBIENT_SCHEMES = {"basic", "digest", "negotiate", "ntlm"}

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
    """Return whether an authenticator has found the user."""
    return getattr(request, _ATTRIBUTE, False)


def needs_csrf_token(request: HttpRequest) -> bool:
    """Return whether the user was found by what a browser sends by itself: the session, or a password that it keeps."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    return not is_authenticated_without_session(request) or scheme.lower() in AMBIENT_SCHEMES


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
    users = (authenticator(request) for authenticator in load_authenticators().usable)
    return next((user for user in users if user is not None), None)


class Authenticators:
    """The entries of the setting that can be used, in their order. ``wrong`` is what is wrong with the others."""

    def __init__(self, entries: Any) -> None:
        self.usable: list[Authenticator] = []
        self.wrong: list[WrongDeclaration] = []
        for entry in entries:
            try:
                self.usable.append(_make_authenticator(entry))
            except _Wrong as exc:
                message = f"NOTIFICATIONS['AUTHENTICATORS']: {entry!r} {exc}"
                self.wrong.append(WrongDeclaration("notifications.E014", message, exc.hint))


def read_authenticators() -> Authenticators:
    """Import the authenticators, and return which of them can be used."""
    try:
        return Authenticators(settings.AUTHENTICATORS)
    except ImproperlyConfigured:  # not a list, which another check reports
        return Authenticators([])


@cached_until_changed("NOTIFICATIONS")
def load_authenticators() -> Authenticators:
    """Return the authenticators. What is wrong with them is logged by the first call in a process."""
    authenticators = Authenticators(settings.AUTHENTICATORS)
    for wrong in authenticators.wrong:
        logger.error("An entry of AUTHENTICATORS is left out: %s %s", wrong.message, wrong.hint)
    return authenticators


class _Wrong(Exception):
    """An entry that cannot be used, with the ``hint`` of the system check."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint or (
            "Write the dotted path of an authentication class of Django REST framework, or of a function that takes "
            "the request and returns a user or None."
        )


def _make_authenticator(entry: Any) -> Authenticator:
    try:
        found = import_path(entry) if isinstance(entry, str) else entry
    except CannotImport as exc:
        raise _Wrong(f"cannot be imported: {exc.reason}") from exc
    if isinstance(found, type):
        return _make_authenticator_of_class(found)
    if not callable(found):
        raise _Wrong("is neither an authentication class of Django REST framework nor a function.")
    if iscoroutinefunction(found):
        raise _Wrong("is async.", "Write a sync function: it is called on a thread, and may make queries.")
    try:
        signature_of(found).bind(None)
    except TypeError as exc:
        raise _Wrong(f"cannot be called with a request: {exc}.") from exc
    except ValueError:  # Python knows no signature of it
        pass
    return found


def _make_authenticator_of_class(found: Any) -> Authenticator:
    try:
        from rest_framework import authentication, exceptions
        from rest_framework import request as requests
    except ImportError as exc:
        raise _Wrong(f"is a class, and Django REST framework cannot be imported: {exc}.") from exc
    if not issubclass(found, authentication.BaseAuthentication):
        raise _Wrong("is a class, but not an authentication class of Django REST framework.")
    if issubclass(found, authentication.BasicAuthentication | authentication.RemoteUserAuthentication):
        raise _Wrong(
            "reads credentials that browsers send by themselves, for the form of another site too, and a request "
            "whose user it finds would need no CSRF token.",
            "Remove it. Programs send a token, as with TokenAuthentication; pages have the session.",
        )
    if issubclass(found, authentication.SessionAuthentication):
        return lambda request: None  # the session is asked in any case, with the CSRF check
    tokens = authentication.TokenAuthentication
    has_tokens_of_drf = issubclass(found, tokens) and not found.model and found.get_model is tokens.get_model
    if has_tokens_of_drf and not apps.is_installed("rest_framework.authtoken"):
        hint = "Add 'rest_framework.authtoken' to INSTALLED_APPS, and run manage.py migrate."
        raise _Wrong("has no table of tokens: 'rest_framework.authtoken' is not in INSTALLED_APPS.", hint)
    try:
        found()
    except Exception as exc:  # code of the project
        raise _Wrong(f"cannot be made without arguments: {type(exc).__name__}: {exc}.") from exc

    def authenticate_by_class(request: HttpRequest) -> Any:
        authentication = found()
        try:
            pair = authentication.authenticate(requests.Request(request))
        except exceptions.APIException as exc:
            header = authentication.authenticate_header(request)
            headers = {"WWW-Authenticate": header} if header and exc.status_code == 401 else {}
            detail: Any = exc.detail
            detail = detail.get("detail", exc.default_detail) if isinstance(detail, dict) else detail
            raise Problem(exc.status_code, str(detail), headers=headers) from exc
        return pair[0] if pair else None

    return authenticate_by_class
