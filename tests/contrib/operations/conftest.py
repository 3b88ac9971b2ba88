"""Workers and staff for tests of operations."""

from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.admin.test_job_list import filtered_jobs, get, short_pages  # noqa: F401 (fixtures)
from tests.contrib.engines.conftest import engine_process, idle_engine  # noqa: F401 (fixtures)
from tests.extension.conftest import recorder  # noqa: F401 (a fixture)
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    live_worker,
    longest_backoff,
    short_join_idle,
    start_worker,
    with_engine,
    without_engine,
    worker,
)
