"""A wall clock that tests can shift, for every process of a site: FAULT_CLOCK names a file with seconds to add.

On PostgreSQL the app uses the database's clock, which CREATE_SHIFTED_CLOCK replaces.
"""

import os
from datetime import timedelta
from pathlib import Path

#: The search path has this schema before PostgreSQL's own, so that clock_timestamp() is this function.
CREATE_SHIFTED_CLOCK = """
CREATE SCHEMA shifted;
CREATE TABLE shifted.clock AS SELECT 0.0::float8 AS seconds;
CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM shifted.clock $$;
"""
SET_SEARCH_PATH = 'ALTER DATABASE "{}" SET search_path = shifted, public, pg_catalog'


def change():
    if not (path := os.environ.get("FAULT_CLOCK")):
        return
    import time

    from django.utils import timezone

    original_now, original_time = timezone.now, time.time
    file = Path(path)

    def read_shift():
        return float(file.read_text() or 0)

    timezone.now = lambda: original_now() + timedelta(seconds=read_shift())
    time.time = lambda: original_time() + read_shift()
    time.time_ns = lambda: int(time.time() * 1e9)
