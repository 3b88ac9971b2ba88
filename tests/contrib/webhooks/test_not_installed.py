"""A project without the app: nothing shows that there is one, and what needs it says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

USE = """
import io
import json
import re
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from mysite.tasks import add
from notifications import api, testing
from notifications.extension import hooks
from notifications.models import Job, Notification
from tests.support.checks import doctor

names = re.compile("webhook|jobcallback")
assert not [table for table in connection.introspection.table_names() if names.search(table)]
assert not Permission.objects.filter(codename__regex="webhook|jobcallback").exists()
assert doctor("tables")[0]["state"] == "ok"
printed = io.StringIO()
call_command("notifications", "prune", dry_run=True, stdout=printed)
assert "jobs" in printed.getvalue() and "webhook" not in printed.getvalue()
assert "callback" not in hooks.wait_kinds

ada = User.objects.create_superuser("ada")
request = RequestFactory().post("/", headers={"Callback-URL": "https://crm.example.com/"})
request.user = ada
response = api.accepted(request, lambda: add.enqueue(1, 2))
assert response.status_code == 202 and "Callback-URL" not in response
job, client = Job.objects.get(), Client()
testing.run_jobs()
assert Job.objects.get().state == "succeeded"
note = Notification.objects.get()
client.force_login(ada)
assert client.get("/notifications/api/webhooks/").status_code == 404
for path in (f"jobs/{job.pk}/", f"{note.pk}/"):
    assert client.get(f"/notifications/{path}").status_code == 200
assert client.post(f"/notifications/callbacks/{job.pk}/token/").status_code == 404
assert "webhook" not in json.dumps(client.get("/notifications/api/openapi.json").json()["paths"])
of_job, of_note = f"job/{job.pk}/change/", f"notification/{note.pk}/change/"
for path in ("", "notifications/job/", f"notifications/{of_job}", f"notifications/{of_note}"):
    response = client.get(f"/admin/{path}")
    assert response.status_code == 200, path
    main = response.text[response.text.index('id="content"'):]
    assert not re.search("ebhook|allback|alls to programs", main), (path, main)
assert client.get("/admin/notifications_webhooks/webhookendpoint/").status_code == 404
ada.delete()
assert not Job.objects.exists()

from notifications.contrib import webhooks
for use in (
    lambda: __import__("notifications.contrib.webhooks.models"),
    lambda: webhooks.create("https://crm.example.com/"),
    lambda: webhooks.callback("bank"),
):
    try:
        use()
    except ImproperlyConfigured as exc:
        print(exc)
assert not [model for model in apps.get_models() if names.search(model.__name__.lower())]
"""


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    line = 'Add "notifications.contrib.webhooks" to INSTALLED_APPS, and run manage.py migrate.'
    assert printed == [f"notifications.contrib.webhooks is not installed. {line}"] * 3
    assert "no issues" in project.manage("check")


def test_its_settings_name_it(project):
    project.add_settings('NOTIFICATIONS |= {"WEBHOOKS": True, "HANDLERS": {}, "CALLBACK_ORIGINS": []}\n')
    found = project.manage("shell", "--no-imports", "-c", CHECK)
    assert found.count('Add "notifications.contrib.webhooks" to INSTALLED_APPS') == 3


def test_it_is_installed_by_one_line(project):
    """Readiness and the check of the database look at its tables too."""
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.webhooks"]\n')
    assert "notifications_webhooks.0001_initial" in project.manage("shell", "--no-imports", "-c", PENDING)
    project.manage("migrate", "--verbosity", "0")
    project.manage("shell", "--no-imports", "-c", "import notifications.contrib.webhooks.models")
    assert "'state': 'ok'" in project.manage("shell", "--no-imports", "-c", PENDING)
    printed = project.manage("shell", "--no-imports", "-c", FORMER_TABLE)
    assert "notifications_webhooks_webhookattempt has no column status" in printed


CHECK = """
from django.core import checks
print(*[message.hint for message in checks.run_checks() if message.id == "notifications.E002"], sep="\\n")
"""
PENDING = "from tests.support.checks import doctor; print(doctor('tables'))"
FORMER_TABLE = """
from django.db import connection
from tests.support.checks import doctor
connection.cursor().execute("ALTER TABLE notifications_webhooks_webhookattempt DROP COLUMN status")
print(doctor("E012"))
"""
