"""The system check of broadcasts."""

import pytest

from notifications.contrib.broadcasts import audiences


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("", []),
        ("last_name", []),
        ("groups__name", []),
        ("langage", ["notifications.W035"]),
        ("profile__language", ["notifications.W035"]),
        ("last_name__nothing", ["notifications.W035"]),
        (7, []),
    ],
)
def test_user_language(settings, name, ids):
    """W035, with the fields that there are; another type is E003."""
    settings.NOTIFICATIONS = {"USER_LANGUAGE": name}
    messages = audiences.find_wrong_language()
    assert [message.id for message in messages] == ids
    assert all(repr(name) in message.message and "last_name" in message.hint for message in messages)
