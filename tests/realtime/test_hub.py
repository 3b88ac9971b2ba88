"""The periodic work of a hub."""

from notifications.realtime import hub


def test_deactivated_users_are_searched_within_5_seconds():
    assert hub.ACTIVE_CHECK_TICKS < 5
