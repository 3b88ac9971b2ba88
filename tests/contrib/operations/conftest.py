"""Workers and staff for tests of operations."""

from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.admin.test_job_list import filtered_jobs, get, short_pages  # noqa: F401 (fixtures)
from tests.contrib.engines.conftest import engine_process, idle_engine  # noqa: F401 (fixtures)
from tests.extension.conftest import recorder  # noqa: F401 (a fixture)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
