"""A SQLite database that cannot grow while the file FAULT_FULL exists, as on a full disk."""

import os
from functools import partial

#: The default of SQLite.
MAX_PAGES = 2**32 - 2


def change():
    from django.db.backends.signals import connection_created

    if full := os.environ.get("FAULT_FULL"):
        connection_created.connect(
            lambda connection, **_: connection.execute_wrappers.append(partial(limit, full)), weak=False
        )


def limit(full, execute, sql, params, many, context):
    """Run a statement on a connection whose database may not grow while the file exists."""
    raw = context["connection"].connection
    if raw is not None:
        raw.execute(
            f"PRAGMA max_page_count = {1 if os.path.exists(full) else MAX_PAGES}"
        )  # SQLite never sets it below the current size.
    return execute(sql, params, many, context)
