"""Find who gets events, handlers and the endpoints of webhooks, in the transaction of the events.

Endpoints are read each time: one that another process has just added gets the next event. The read is a small part of
that transaction, also where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from notifications.contrib.webhooks.handlers import load_handlers
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.db import bulk
from notifications.db.transactions import connection
from notifications.db.user_keys import from_db, to_db
from notifications.jobs.declaring.policies import sender_key
from notifications.models import Job

#: A value, and the same as JSON.
Item = tuple[dict[str, Any] | None, str]
NO_ITEM: Item = (None, "null")
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
                f"SELECT id, user_id, events FROM {WebhookEndpoint._meta.db_table} "
                f"WHERE off_at IS NULL AND ({' OR '.join(conditions)})",
                params,
            )
            rows = cursor.fetchall()
        for id, user, events in rows:
            for event in events.split():
                key = (event, None if user is None else from_db(user))
                self._by_event.setdefault(key, []).append(str(UUID(str(id))))


class Receivers:
    """Who gets the events of some users (keys): the handlers, and the endpoints of webhooks, which are read now."""

    def __init__(self, users: Iterable[Any]) -> None:
        handlers = load_handlers()
        self._handlers, self._webhook = handlers.by_event, handlers.webhook
        self.users = set(users)
        self._endpoints = Endpoints(self.users) if self._webhook else None

    def __bool__(self) -> bool:
        return bool(self._handlers or self._endpoints)

    def exist(self, type: str, user: Any) -> bool:
        """Return whether an event of a user has receivers."""
        return type in self._handlers or bool(self._endpoints and self._endpoints.find(type, user))

    def build_jobs(self, type: str, user: Any, event: Item, source: UUID, **columns: Any) -> Iterator[Job]:
        """Yield the unsaved jobs of an event of a notification or job, whose id is the ``source``."""
        columns["event_source"] = source
        for handler in self._handlers.get(type, ()):
            yield handler.build_job(*event, **columns)
        if self._endpoints is None or self._webhook is None:
            return
        value, text = event
        of_user = self._endpoints.find_of_user(type, user)
        for id in [*self._endpoints.find_of_site(type), *of_user]:
            with_endpoint = {"endpoint": id, **(value or {})}, f'{{"endpoint":"{id}",{text[1:]}'
            job = self._webhook.build_job(*with_endpoint, **columns)
            if id in of_user:  # all that is sent for a user shares one limit
                job.concurrency_key = sender_key(user)
            yield job
