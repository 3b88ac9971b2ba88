"""Who is signed in: Django's session, read and never written.

``django.contrib.auth.get_user()`` would flush a session that does not verify, and give one signed with an old secret
key a new name, which the browser of a WebSocket cannot be told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

#: Characters of the session keys that Django makes.
KEY_LENGTH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """That a user (key) is signed in, by a session, or (None) in a way of the project's own."""

    user: Any
    session: str | None


def session_key(request: HttpRequest) -> str | None:
    """Return the session's key that the request's cookie names."""
    return request.COOKIES.get(settings.SESSION_COOKIE_NAME)


def session_of(request: HttpRequest) -> str | None:
    """Return the key of the session by which the user of a request is signed in; None if it was another way."""
    session = getattr(request, "session", None)
    if session is None or session.get(SESSION_KEY) != _name(request.user):
        return None
    # One that began with this request is stored at its end, and not before.
    return session.session_key if session.session_key == session_key(request) else None


def says_who_it_is(session: Any, user: Any) -> bool:
    """Whether a session, as it was read before, is one in which this user is signed in. Nothing is read for it."""
    return getattr(session, "_session_cache", {}).get(SESSION_KEY) == _name(user)


def signed_in(key: str | None) -> Any | None:
    """Return the key (pk) of the user who is signed in in this session, None where nobody is, or no longer.

    Not signed in any more: the session has ended or expired, the password was changed, the user is gone or not active.
    Raises the errors of the session's store, the database or the authentication backend.
    """
    if not key or not key.isprintable():  # PostgreSQL refuses NUL
        return None
    store = _store()
    session = store(key)
    if session.get(SESSION_KEY) is None:
        if len(key) == KEY_LENGTH and key.isascii() and key.isalnum():
            # The store of a cache that cannot be asked says that the session is not there; this one raises then.
            store().exists(key)
        return None
    return _user_of(session, _ask_for_user)


def users_signed_in(keys: Iterable[str]) -> dict[str, Any]:
    """Return who (key) is signed in in each of these sessions. Raises as ``signed_in`` does.

    Two queries for all of them, where sessions are in Django's own table and users come from its own backend.
    """
    possible = {key for key in keys if key.isprintable()}
    if _store().load is DatabaseSession.load:
        return _users_by_table(possible)
    return {key: signed_in(key) for key in possible}


def all_signed_in(claims: Sequence[Claim]) -> list[bool]:
    """Return which of these claims still hold. Raises as ``signed_in`` does."""
    signed = users_signed_in({claim.session for claim in claims if claim.session})
    others = _active({claim.user for claim in claims if not claim.session})
    return [
        signed.get(claim.session) == claim.user if claim.session else claim.user in others for claim in claims
    ]


def gone(users: Sequence[Any]) -> list[Any]:
    """Return those of these users (keys) who do not exist. One query for 500 of them."""
    found: set[Any] = set()
    for start in range(0, len(users), 500):
        some = get_user_model()._base_manager.filter(pk__in=users[start : start + 500])
        found.update(some.values_list("pk", flat=True))
    return [user for user in users if user not in found]


def _store() -> type[SessionBase]:
    return import_module(settings.SESSION_ENGINE).SessionStore


def _name(user: Any) -> str:
    """How sessions name a user."""
    return user._meta.pk.value_to_string(user)


def _user_of(session: Any, get: Callable[[str, Any], Any]) -> Any | None:
    """The user in the data of a session: ``get(backend, pk)`` finds them."""
    name, backend = session.get(SESSION_KEY), session.get(BACKEND_SESSION_KEY)
    if name is None or backend not in settings.AUTHENTICATION_BACKENDS:
        return None
    try:
        user = get(backend, get_user_model()._meta.pk.to_python(name))
    except ValidationError:  # a session of another user model
        return None
    if user is None or not user.is_active or not _verified(session.get(HASH_SESSION_KEY) or "", user):
        return None
    return user.pk


def _ask_for_user(backend: str, pk: Any) -> Any:
    return load_backend(backend).get_user(pk)


def _users_by_table(keys: set[str]) -> dict[str, Any]:
    store: Any = _store()()
    rows = store.model.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    sessions = {key: store.decode(data) for key, data in rows.values_list("session_key", "session_data")}
    to_python = get_user_model()._meta.pk.to_python
    wanted = set()
    for session in sessions.values():
        with contextlib.suppress(ValidationError):
            wanted.add(to_python(session.get(SESSION_KEY)))
    users = get_user_model()._default_manager.in_bulk(wanted - {None})

    def get(name: str, pk: Any) -> Any:
        backend = load_backend(name)
        if type(backend).get_user is not ModelBackend.get_user:
            return backend.get_user(pk)
        user = users.get(pk)
        return user if user and backend.user_can_authenticate(user) else None

    return {key: _user_of(session, get) for key, session in sessions.items()}


def _active(users: set[Any]) -> set[Any]:
    found = get_user_model()._default_manager.in_bulk(users) if users else {}
    return {pk for pk, user in found.items() if user.is_active}


def _verified(mark: str, user: Any) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash()]
    if hasattr(user, "get_session_auth_fallback_hash"):
        hashes += user.get_session_auth_fallback_hash()
    return any(constant_time_compare(mark, known) for known in hashes)
