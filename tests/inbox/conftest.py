"""Fixtures of tests of the inbox."""

import pytest

from tests.http.conftest import urls, user_client  # noqa: F401 (fixtures)


@pytest.fixture
def set_lists(monkeypatch):
    """set_lists(PAGE_SIZE=4) sets what a page of the inbox shows."""
    return lambda **to: [
        monkeypatch.setattr(f"notifications.inbox.inbox_page.{name}", to[name]) for name in to
    ]


@pytest.fixture
def set_grouping(monkeypatch):
    """set_grouping(MAX_COUNTED=5) sets how many rows of groups are read for a page."""
    return lambda **to: [
        monkeypatch.setattr(f"notifications.streams.grouping.{name}", to[name]) for name in to
    ]
