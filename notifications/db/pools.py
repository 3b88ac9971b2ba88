"""How many sync jobs a pool of connections of Django's has room for, which is one for all threads of a process.

A sync job holds its connection until its end, so as many as the pool has would leave none to the others, which fail
after the pool's ``timeout``. The threads that claim, record and renew the lease have connections outside of the pool:
see ``deadlines.limit_this_thread()``.
"""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections

from notifications.db.transactions import database

#: Connections of a pool that are kept for others than sync jobs: for the database work of async tasks, for what the app
#: sends, and for periodic work that calls code of the project. Each is held for a query or a transaction.
OWN_POOLED_CONNECTIONS = 3
#: What psycopg's pool holds if the project does not say.
DEFAULT_MIN_SIZE = 4


def pool_size() -> int | None:
    """Return how many connections the pool of the project's or the app's database holds, None without a pool."""
    sizes = [
        pool.get("max_size") or pool.get("min_size", DEFAULT_MIN_SIZE)
        for alias in {DEFAULT_DB_ALIAS, database()}
        if (pool := _pool_options(alias)) is not None
    ]
    return min(sizes, default=None)


def limit_by_pool(sync_jobs: int) -> int:
    """Return how many of this many sync jobs may run at once: what the pool holds less ``OWN_POOLED_CONNECTIONS``."""
    size = pool_size()
    return sync_jobs if size is None else min(sync_jobs, max(1, size - OWN_POOLED_CONNECTIONS))


def _pool_options(alias: str) -> dict[str, int] | None:
    settings = connections.settings[alias]
    pool = settings.get("OPTIONS", {}).get("pool") if "postgresql" in settings["ENGINE"] else None
    return {} if pool is True else pool or None
