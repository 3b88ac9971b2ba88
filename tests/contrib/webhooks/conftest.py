"""Fixtures of jobs and of the admin."""

from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
