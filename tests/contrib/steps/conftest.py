"""Fixtures of the folder whose parts these tests use."""

from tests.jobs.conftest import *  # noqa: F403 (fixtures)
