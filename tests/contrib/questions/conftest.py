"""Fixtures of tests of questions."""

from tests.extension.conftest import recorder, shop  # noqa: F401 (fixtures)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
