"""Signed-in users."""

from __future__ import annotations

from datetime import timedelta


def create_users_with_sessions(count: int) -> list[tuple[int, str]]:
    """Create users with a session each; return their keys and the keys of the sessions."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connections
    from django.utils import timezone
    from django.utils.crypto import get_random_string

    User = get_user_model()
    User.objects.bulk_create(
        User(username=f"person-{number}", password=f"!{get_random_string(40)}") for number in range(count)
    )
    users = list(User.objects.order_by("pk"))
    store = SessionStore()
    rows = [
        store.model(
            session_key=get_random_string(32).lower(),
            session_data=store.encode(
                {
                    SESSION_KEY: str(user.pk),
                    BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
                    HASH_SESSION_KEY: user.get_session_auth_hash(),
                }
            ),
            expire_date=timezone.now() + timedelta(days=1),
        )
        for user in users
    ]
    store.model.objects.bulk_create(rows)
    connections.close_all()
    return [(user.pk, row.session_key) for user, row in zip(users, rows, strict=True)]
