"""A wall clock that can be moved, for every process of a site: FAULT_CLOCK names a file with seconds to add.

On PostgreSQL the app asks the database; `MOVED` lets that answer from a table.
"""

import os
from datetime import timedelta
from pathlib import Path

from django.apps import AppConfig

#: The schema is looked through before PostgreSQL's own, so that clock_timestamp() is this one.
MOVED = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock AS SELECT 0.0::float8 AS seconds;
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM moved.clock $$;
"""
SEARCHED = 'ALTER DATABASE "{}" SET search_path = moved, public, pg_catalog'


class Clock(AppConfig):
    name = "tests.faults.support.clock"
    label = "fault_clock"

    def ready(self):
        if not (path := os.environ.get("FAULT_CLOCK")):
            return
        import time

        from django.utils import timezone

        really, really_seconds = timezone.now, time.time
        file = Path(path)

        def moved():
            return float(file.read_text() or 0)

        timezone.now = lambda: really() + timedelta(seconds=moved())
        time.time = lambda: really_seconds() + moved()
        time.time_ns = lambda: int(time.time() * 1e9)
