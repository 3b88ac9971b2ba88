"""A project without the app: nothing shows that there is one, and what needs it says the line to add."""

import sys

import pytest

from tests.support.processes import run

LINE = 'Add "notifications.contrib.deliveries" to INSTALLED_APPS, and run manage.py migrate.'
USE = """
import io
import re
from datetime import timedelta
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from notifications import duties, testing
from notifications.api import notify
from notifications.models import Notification, Stream
from notifications.times import now
from notifications.extension import Upkeep
from tests.support.checks import doctor
from tests.support.duties import run_duty

FEATURE = re.compile("deliver|preference|digest|throttle|push|outage|_reader|[^_a-z]mute|unsubscribe", re.I)
assert not [table for table in connection.introspection.table_names() if FEATURE.search(table)]
assert not [each for each in Permission.objects.values_list("codename", flat=True) if FEATURE.search(each)]
assert doctor("tables")[0]["state"] == "ok"
printed = io.StringIO()
call_command("notifications", "prune", dry_run=True, stdout=printed)
assert "jobs" in printed.getvalue() and not FEATURE.search(printed.getvalue())

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
(id,) = notify(ada, "Hello", category="export", deliver=[])
inbox, page = (client.get(f"/notifications/{path}").text for path in ("", f"{id}/"))
assert "Hello" in inbox and "Hello" in page
for text in (inbox, page):
    main = text[text.index("<body"):]
    assert not FEATURE.search(re.sub("<script.*?</script>", "", main, flags=re.DOTALL)), main
for path in ("preferences/", "devices/", "devices/worker.js", "unsubscribe/x/", "api/preferences/"):
    assert client.get(f"/notifications/{path}").status_code == 404, path
assert client.post("/notifications/mute/", {"category": "export"}).status_code == 404
assert "/preferences/" not in client.get("/notifications/api/openapi.json").text
form = {"until": f"tomorrow.{id}", "up_to": Stream.objects.get(user=ada).head}
assert client.post("/notifications/snooze/", form).status_code == 303
Notification.objects.update(snoozed_until=now() - timedelta(seconds=1))
run_duty("raise snoozed notifications")
assert Notification.objects.get(pk=id).archived_at is None
for path in ("", "notifications/notification/", f"notifications/notification/{id}/change/"):
    response = client.get(f"/admin/{path}")
    assert response.status_code == 200, path
    main = response.text[response.text.index('id="content"'):]
    assert not FEATURE.search(main), (path, main)
assert client.get("/admin/notifications_deliveries/preference/").status_code == 404
User.objects.create_user("bob").delete()

def print_error(function, *args, **options):
    try:
        function(*args, **options)
    except (AttributeError, CommandError, ImproperlyConfigured, ValueError) as exc:
        print(exc)

print_error(notify, ada, "Hello", deliver=[{"email": 0}])
print_error(call_command, "notifications", "explain", "--user", "ada")
print_error(call_command, "notifications", "vapid")
for module in ("models", "sending", "admin", "urls"):
    print_error(__import__, f"notifications.contrib.deliveries.{module}")
assert not [model for model in apps.get_models() if FEATURE.search(model.__name__)]
"""


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    assert len(printed) == 7
    for error in printed:
        assert LINE in error, error
    assert printed[0].startswith("deliver is [{'email': 0}]")
    checks = run(sys.executable, "manage.py", "check", cwd=project.folder, env=project.environment)
    assert "no issues" in checks


@pytest.mark.nightly
def test_it_is_installed_by_one_line(project):
    project.add_settings(
        'INSTALLED_APPS += ["notifications.contrib.deliveries"]\n'
        'NOTIFICATIONS |= {"SITE_URL": "https://example.com", "DELIVERY": {"*": [{"email": 0}]}}\n'
    )
    project.manage("migrate", "--verbosity", "0")
    assert project.manage("shell", "--no-imports", "-c", SEND).splitlines()[-1] == "['Hello']"


SEND = """
from django.conf import settings
from django.contrib.auth.models import User
from django.core import mail
from django.test.utils import setup_test_environment
from notifications.api import notify
from notifications.contrib.deliveries.testing import send_deliveries
setup_test_environment()
notify(User.objects.create_user("ada", "ada@example.com"), "Hello")
assert send_deliveries() == 1
print([email.subject for email in mail.outbox])
"""
