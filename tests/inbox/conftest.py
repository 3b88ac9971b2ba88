"""Fixtures of tests of the inbox."""

from tests.http.conftest import urls, user_client  # noqa: F401 (fixtures)
