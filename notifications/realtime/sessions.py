"""Who is signed in: Django's session, read and never written.

``django.contrib.auth.get_user()`` would flush a session that does not verify, and give one signed with an old secret
key a new name, which the browser of a WebSocket cannot be told.
"""

from __future__ import annotations

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
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare


def session_key(request: HttpRequest) -> str | None:
    """Return the session's key that the request's cookie names."""
    return request.COOKIES.get(settings.SESSION_COOKIE_NAME)


def signed_in(key: str | None) -> Any | None:
    """Return the key (pk) of the user who is signed in in this session, None where nobody is, or no longer.

    Not signed in any more: the session has ended or expired, the password was changed, the user is gone or not active.
    Raises the errors of the session's store, the database or the authentication backend.
    """
    if not key:
        return None
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    name, backend = session.get(SESSION_KEY), session.get(BACKEND_SESSION_KEY)
    if name is None or backend not in settings.AUTHENTICATION_BACKENDS:
        return None
    try:
        user = load_backend(backend).get_user(get_user_model()._meta.pk.to_python(name))
    except ValidationError:  # a session of another user model
        return None
    if user is None or not user.is_active or not _verified(session.get(HASH_SESSION_KEY) or "", user):
        return None
    return user.pk


def _verified(mark: str, user: Any) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash()]
    if hasattr(user, "get_session_auth_fallback_hash"):
        hashes += user.get_session_auth_fallback_hash()
    return any(constant_time_compare(mark, known) for known in hashes)
