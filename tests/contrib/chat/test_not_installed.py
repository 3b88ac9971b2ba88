"""Projects without the app, or without that of deliveries."""

import pytest

pytestmark = pytest.mark.nightly

LINE = 'Add "notifications.contrib.{}" to INSTALLED_APPS, and run manage.py migrate.'
USE = """
from django.contrib.auth.models import User
from notifications.api import notify
try:
    notify(User.objects.create_user("ada"), "Hello", deliver=[{"slack": 0}])
except ValueError as exc:
    print(exc)
"""
SEND = """
from django.contrib.auth.models import User
from notifications.api import notify
from notifications.contrib.deliveries.testing import send_deliveries
notify(User.objects.create_user("ada"), "Hello")
send_deliveries()
from notifications.contrib.deliveries.models import Delivery
print([(row.channel, row.reason) for row in Delivery.objects.all()])
"""
DELIVERIES = """INSTALLED_APPS += ["notifications.contrib.deliveries"]
NOTIFICATIONS |= {"SITE_URL": "https://example.com", "DELIVERY": {"*": [{"slack": 0}]}}
"""


def test_there_is_no_such_channel_without_it(project):
    project.add_settings(DELIVERIES)
    project.manage("migrate", "--verbosity", "0")
    printed = project.manage("shell", "--no-imports", "-c", USE)
    assert printed == "There is no channel 'slack'. Channels: email, push.\n"
    project.add_settings(
        'NOTIFICATIONS |= {"SLACK": {"webhook_url": "https://hooks.slack.com/services/x"}}\n'
    )
    code, _, errors = project.try_command("check")
    assert code and LINE.format("chat") in errors and "There is no channel 'slack'." in errors


def test_it_requires_deliveries(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.chat"]\n')
    code, _, errors = project.try_command("check")
    assert code and LINE.format("deliveries") in errors
    assert (
        "notifications.contrib.deliveries is not installed, which notifications.contrib.chat requires."
        in errors
    )


def test_it_is_installed_by_one_line(project):
    project.add_settings(DELIVERIES, 'INSTALLED_APPS += ["notifications.contrib.chat"]\n')
    project.manage("migrate", "--verbosity", "0")
    code, _, errors = project.try_command("check")
    assert not code and "notifications.W037" in errors
    assert project.manage("shell", "--no-imports", "-c", SEND).splitlines()[-1] == "[('slack', 'no-address')]"
