"""Find the endpoints of webhooks that get events, in the transaction of the events.

They are read each time: one that another process has just added gets the next event. The read is a small part of that
transaction, also where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from notifications.db import bulk
from notifications.db.transactions import connection
from notifications.db.user_keys import from_db, to_db
from notifications.models import WebhookEndpoint

#: Users of one query.
MAX_USERS_PER_QUERY = 500
#: How many endpoints got an event of one user, by the last read of this process. For sizes of transactions only.
most_per_event: Counter[str] = Counter()


class Endpoints:
    """The endpoints that are on, of some users and of the whole site."""

    def __init__(self, users: Iterable[Any]) -> None:
        self._by_event: dict[tuple[str, Any], list[str]] = {}
        keys = sorted({to_db(user) for user in users if user is not None})
        for start in range(0, max(len(keys), 1), MAX_USERS_PER_QUERY):
            self._read(keys[start : start + MAX_USERS_PER_QUERY], with_site=start == 0)
        most_per_event.clear()
        for event, user in self._by_event:
            most_per_event[event] = max(most_per_event[event], len(self.find(event, user)))

    def __bool__(self) -> bool:
        return bool(self._by_event)

    def find(self, event: str, user: Any) -> list[str]:
        """Return the ids of the endpoints that get an event of a user (key); None: of a job without an owner."""
        return [*self.find_of_site(event), *self.find_of_user(event, user)]

    def find_of_site(self, event: str) -> list[str]:
        """Return the ids of the endpoints that get an event of any user."""
        return self._by_event.get((event, None), [])

    def find_of_user(self, event: str, user: Any) -> list[str]:
        """Return the ids of a user's (key) own endpoints that get an event."""
        return [] if user is None else self._by_event.get((event, user), [])

    def _read(self, keys: list[Any], *, with_site: bool) -> None:
        conditions = ["user_id IS NULL"] if with_site else []
        params: list[Any] = []
        if keys:
            of_users, params = bulk.where_in(WebhookEndpoint, "user_id", keys)
            conditions.append(of_users)
        with connection().cursor() as cursor:
            cursor.execute(
                "SELECT id, user_id, events FROM notifications_webhookendpoint "
                f"WHERE off_at IS NULL AND ({' OR '.join(conditions)})",
                params,
            )
            rows = cursor.fetchall()
        for id, user, events in rows:
            for event in events.split():
                key = (event, None if user is None else from_db(user))
                self._by_event.setdefault(key, []).append(str(UUID(str(id))))
