"""The owner of a job is the user who may see it and is notified of its end. See ``context.py`` for who that is."""

from __future__ import annotations

from typing import Any

from notifications import context


def owner_key(owner: Any = None) -> Any:
    """Return the key of the owner of a job that is enqueued now, or None. ``owner`` is that of ``.using()``.

    Raises TypeError or ValueError.
    """
    from notifications.streams.building import user_keys_of

    for user in (owner, *context.owners()):
        if user is not None and not getattr(user, "is_anonymous", False):
            keys = user_keys_of(user)
            if len(keys) != 1:
                raise ValueError(f"The owner of a job is one user, not {len(keys)}: {user!r}.")
            return keys[0]
    return None
