"""Icons of notifications."""

import re

from notifications.streams.icons import NOTIFICATION_ICONS
from tests.docs.pages import section


def test_every_icon_is_documented():
    documented = re.search(r"another one: (.*)\.", section("how-to/notify.md", "Icon"))
    assert re.findall(r"`(\w+)`", documented[1]) == sorted(NOTIFICATION_ICONS)
