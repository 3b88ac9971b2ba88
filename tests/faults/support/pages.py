"""A SQLite database that may have no page more while the file FAULT_FULL is there: no room, without a small disk."""

import os
from functools import partial

from django.apps import AppConfig

#: What SQLite allows unless told.
MOST = 2**32 - 2


class Pages(AppConfig):
    name = "tests.faults.support.pages"
    label = "fault_pages"

    def ready(self):
        from django.db.backends.signals import connection_created

        if full := os.environ.get("FAULT_FULL"):
            connection_created.connect(
                lambda connection, **_: connection.execute_wrappers.append(partial(limit, full)), weak=False
            )


def limit(full, execute, sql, params, many, context):
    """Run a statement on a connection whose bound is the size that the file has, or none."""
    raw = context["connection"].connection
    if raw is not None:
        raw.execute(f"PRAGMA max_page_count = {1 if os.path.exists(full) else MOST}")  # never below its size
    return execute(sql, params, many, context)
