"""Fixtures of the folder whose parts these tests use, and what the tasks of these tests have called."""

import pytest

from tests.contrib.steps import step_tasks
from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture(autouse=True)
def calls():
    step_tasks.calls.clear()
    step_tasks.go_on.clear()
    step_tasks.entered.clear()
    yield step_tasks.calls
    step_tasks.go_on.set()
