"""Read who is signed in from Django's sessions, without ever writing to them.

``django.contrib.auth.get_user()`` flushes a session that does not verify, and cycles the key of one signed with a
fallback of ``SECRET_KEY``. A WebSocket cannot send the new cookie to the browser.
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
from django.db import connections
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from notifications.db.dialects import find_dialect
from notifications.db.transactions import chunks

#: Characters of the session keys that Django generates.
SESSION_KEY_LENGTH = 32
MAX_KEYS_PER_QUERY = 500
MAX_USERS_PER_QUERY = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    """A user key and the session key by which the user is signed in; None for the project's own authentication."""

    user: Any
    session_key: str | None


def cookie_session_key(request: HttpRequest) -> str | None:
    return request.COOKIES.get(settings.SESSION_COOKIE_NAME)


def authenticating_session_key(request: HttpRequest) -> str | None:
    """Return the key of the session that signs in ``request.user``, or None if the user signed in another way."""
    session = getattr(request, "session", None)
    if session is None or not _is_user_of(session.get(SESSION_KEY), request.user):
        return None
    # A session that was created during this request is not stored before its end.
    return session.session_key if session.session_key == cookie_session_key(request) else None


def is_session_of(session: Any, user: Any) -> bool:
    """Return whether an already loaded session signs in this user. Reads nothing."""
    return _is_user_of(getattr(session, "_session_cache", {}).get(SESSION_KEY), user)


def read_user(session_key: str | None) -> Any | None:
    """Return the key (pk) of the user who is signed in with this session, or None.

    None also if the session has expired, the password was changed, or the user was deleted or is not active. Raises
    the errors of the session store, the database and the authentication backend.
    """
    if not session_key or not session_key.isprintable():  # PostgreSQL refuses NUL
        return None
    store = _session_store()
    session = store(session_key)
    if session.get(SESSION_KEY) is None:
        if len(session_key) == SESSION_KEY_LENGTH and session_key.isascii() and session_key.isalnum():
            # load() of a cache store also finds no session when the cache is down; exists() raises then.
            store().exists(session_key)
        return None
    return _verify(session, lambda backend, pk: load_backend(backend).get_user(pk))


def read_users(session_keys: Iterable[str]) -> dict[str, Any]:
    """Return the user key by session key, for the sessions that sign in a user. Raises as ``read_user()`` does.

    Takes two queries in total if sessions are in Django's table and users come from Django's backend.
    """
    printable = {key for key in session_keys if key.isprintable()}
    if _session_store().load is DatabaseSession.load:
        return _read_users_from_table(printable)
    return {key: read_user(key) for key in printable}


def check_sign_ins(sign_ins: Sequence[SignIn]) -> list[bool]:
    """Return for each of these whether it is still valid. Raises as ``read_user()`` does."""
    users = read_users({sign_in.session_key for sign_in in sign_ins if sign_in.session_key})
    active = _find_active({sign_in.user for sign_in in sign_ins if not sign_in.session_key})
    return [
        users.get(sign_in.session_key) == sign_in.user if sign_in.session_key else sign_in.user in active
        for sign_in in sign_ins
    ]


def find_ended(session_keys: Sequence[str]) -> set[str]:
    """Return those of these session keys that the session store does not have: deleted, replaced or expired.

    Cheaper than ``check_sign_ins()``: no session is decoded and no user is read where sessions are in Django's table,
    which takes one query for all keys, whose rows are those that have ended. If the table is in neither PostgreSQL nor
    SQLite, it takes one query per 500 keys. Another store loads each session, and an outage of a cache looks like the
    end of all.
    """
    store: Any = _session_store()
    model = store().model if store.load is DatabaseSession.load else None
    db = connections[model.objects.db] if model else None
    if db is None or model is None:
        return {key for key in session_keys if store(key).get(SESSION_KEY) is None}
    if (dialect := find_dialect(db)) is None:
        live: set[str] = set()
        for chunk in chunks(session_keys, MAX_KEYS_PER_QUERY):
            rows = model.objects.filter(session_key__in=chunk, expire_date__gt=timezone.now())
            live.update(rows.values_list("session_key", flat=True))
        return set(session_keys) - live
    keys_sql, keys = dialect.texts_table(session_keys)
    expires = model._meta.get_field("expire_date").get_db_prep_value(timezone.now(), db)
    with db.cursor() as cursor:
        cursor.execute(
            f"SELECT value FROM {keys_sql} WHERE NOT EXISTS (SELECT 1 FROM "
            f"{db.ops.quote_name(model._meta.db_table)} WHERE session_key = value AND expire_date > %s)",
            [keys, expires],
        )
        return {key for (key,) in cursor.fetchall()}


def find_deleted(users: Sequence[Any]) -> list[Any]:
    """Return those of these user keys that do not exist, with one query per 500."""
    existing: set[Any] = set()
    for chunk in chunks(users, MAX_KEYS_PER_QUERY):
        existing.update(get_user_model()._base_manager.filter(pk__in=chunk).values_list("pk", flat=True))
    return [user for user in users if user not in existing]


def find_deactivated(users: Sequence[Any]) -> list[Any]:
    """Return those of these user keys whose ``is_active`` is false, with one query per 1,000.

    A user model in whose table there is no such column has none.
    """
    model = get_user_model()
    if all(field.name != "is_active" for field in model._meta.concrete_fields):
        return []
    found: list[Any] = []
    for chunk in chunks(users, MAX_USERS_PER_QUERY):
        rows = model._base_manager.filter(pk__in=chunk, is_active=False).order_by()
        found += rows.values_list("pk", flat=True)
    return found


def _session_store() -> type[SessionBase]:
    return import_module(settings.SESSION_ENGINE).SessionStore


def _is_user_of(session_value: Any, user: Any) -> bool:
    return session_value == user._meta.pk.value_to_string(user)


def _verify(session: Any, get_user: Callable[[str, Any], Any]) -> Any | None:
    """Return the user key of a session, or None if it does not verify. Users come from ``get_user(backend, pk)``."""
    value, backend = session.get(SESSION_KEY), session.get(BACKEND_SESSION_KEY)
    if value is None or backend not in settings.AUTHENTICATION_BACKENDS:
        return None
    try:
        user = get_user(backend, get_user_model()._meta.pk.to_python(value))
    except ValidationError:  # a session of another user model
        return None
    if (
        user is None
        or not user.is_active
        or not _is_auth_hash_valid(session.get(HASH_SESSION_KEY) or "", user)
    ):
        return None
    return user.pk


def _read_users_from_table(session_keys: set[str]) -> dict[str, Any]:
    store: Any = _session_store()()
    rows = store.model.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    sessions = {key: store.decode(data) for key, data in rows.values_list("session_key", "session_data")}
    to_python = get_user_model()._meta.pk.to_python
    pks = set()
    for session in sessions.values():
        with contextlib.suppress(ValidationError):
            pks.add(to_python(session.get(SESSION_KEY)))
    users = get_user_model()._default_manager.in_bulk(pks - {None})

    def get_user(backend_path: str, pk: Any) -> Any:
        backend = load_backend(backend_path)
        if type(backend).get_user is not ModelBackend.get_user:
            return backend.get_user(pk)
        user = users.get(pk)
        return user if user and backend.user_can_authenticate(user) else None

    return {key: _verify(session, get_user) for key, session in sessions.items()}


def _find_active(users: set[Any]) -> set[Any]:
    rows = get_user_model()._default_manager.in_bulk(users) if users else {}
    return {pk for pk, user in rows.items() if user.is_active}


def _is_auth_hash_valid(auth_hash: str, user: Any) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash()]
    if hasattr(user, "get_session_auth_fallback_hash"):
        hashes += user.get_session_auth_fallback_hash()
    return any(constant_time_compare(auth_hash, valid) for valid in hashes)
