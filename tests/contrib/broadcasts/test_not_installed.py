"""A project without the app: nothing shows that there is one, and an import says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

USE = """
import re
from uuid import uuid4
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from notifications.api import notify
from notifications.models import Notification
from notifications.times import now
from tests.support.checks import doctor
from tests.support.duties import run_duty

assert not [table for table in connection.introspection.table_names() if "broadcast" in table]
assert not Permission.objects.filter(codename__contains="broadcast").exists()
assert doctor("tables")[0]["state"] == "ok"

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
(id,) = notify(ada, "Hello")
Notification.objects.update(broadcast=uuid4())  # of the time when the app was installed
assert "Hello" in client.get("/notifications/").text
assert "Sent to several users" not in client.get(f"/notifications/{id}/").text
for path in ("", "notifications/notification/", f"notifications/notification/{id}/change/"):
    response = client.get(f"/admin/{path}")
    assert response.status_code == 200, path
    main = response.text[response.text.index('id="content"'):]
    assert not re.search("roadcast|sent_with|Send a notification", main), (path, main)
assert client.get("/admin/notifications_broadcasts/broadcast/add/").status_code == 404
Notification.objects.update(snoozed_until=now(), archived_at=now())
run_duty("raise snoozed notifications")
assert Notification.objects.get().archived_at is None
bob = User.objects.create_user("bob")
notify(bob, "Hello")
bob.delete()
assert Notification.objects.count() == 1
for module in ("models", "sending", "admin"):
    try:
        __import__(f"notifications.contrib.broadcasts.{module}")
    except ImproperlyConfigured as exc:
        print(exc)
assert not [model for model in apps.get_models() if model.__name__ == "Broadcast"]
"""


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    line = 'Add "notifications.contrib.broadcasts" to INSTALLED_APPS, and run manage.py migrate.'
    assert printed == [f"notifications.contrib.broadcasts is not installed. {line}"] * 3
    assert "no issues" in project.manage("check")


def test_it_is_installed_by_one_line(project):
    """Readiness and the check of the database look at its tables too."""
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.broadcasts"]\n')
    assert "notifications_broadcasts.0001_initial" in project.manage("shell", "--no-imports", "-c", PENDING)
    project.manage("migrate", "--verbosity", "0")
    project.manage("shell", "--no-imports", "-c", "import notifications.contrib.broadcasts.models")
    assert "'state': 'ok'" in project.manage("shell", "--no-imports", "-c", PENDING)
    printed = project.manage("shell", "--no-imports", "-c", FORMER_TABLE)
    assert "notifications_broadcasts_broadcast has no column position" in printed


PENDING = "from tests.support.checks import doctor; print(doctor('tables'))"
FORMER_TABLE = """
from django.db import connection
from tests.support.checks import doctor
from tests.support.duties import run_duty
connection.cursor().execute("ALTER TABLE notifications_broadcasts_broadcast DROP COLUMN position")
print(doctor("E012"))
"""
