"""A project without the app: nothing shows that there is one, and an import says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

USE = """
import io
import re
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.test import Client
from notifications.extension import Upkeep, Where
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.checks import doctor

assert not [table for table in connection.introspection.table_names() if re.search("schedule|tick", table)]
assert not Permission.objects.filter(codename__contains="schedule").exists()
assert doctor("tables")[0]["state"] == "ok"
names = {duty.name for duty in Upkeep(Where.WORKER, seconds=0).duties}
assert not [name for name in names if "schedule" in name]
assert not [each for each in doctor() if "schedule" in each["check"]]
printed = io.StringIO()
call_command("notifications", "prune", dry_run=True, stdout=printed)
assert "jobs" in printed.getvalue() and "ticks" not in printed.getvalue()

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
job = tasks.noop.using(owner=ada).enqueue().id
Job.objects.filter(id=job).update(schedule="nightly")  # of the time when the app was installed
run_jobs()
assert Job.objects.get(id=job).state == "succeeded"
for path in ("", "notifications/job/", f"notifications/job/{job}/change/"):
    response = client.get(f"/admin/{path}")
    assert response.status_code == 200, path
    main = response.text[response.text.index('id="content"'):]
    assert not re.search(r"[Ss]chedules|schedule/", main), (path, main)
assert client.get("/notifications/").status_code == 200
assert client.get("/admin/notifications_schedules/schedule/").status_code == 404
for module in ("models", "ticks", "admin"):
    try:
        __import__(f"notifications.contrib.schedules.{module}")
    except ImproperlyConfigured as exc:
        print(exc)
assert not [model for model in apps.get_models() if model.__name__ == "Schedule"]
"""


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    line = 'Add "notifications.contrib.schedules" to INSTALLED_APPS, and run manage.py migrate.'
    assert printed == [f"notifications.contrib.schedules is not installed. {line}"] * 3
    assert "no issues" in project.manage("check")


def test_it_is_installed_by_one_line(project):
    project.add_settings(
        'INSTALLED_APPS += ["notifications.contrib.schedules"]\n'
        'NOTIFICATIONS["SCHEDULES"] = {"nightly": {"task": "tests.jobs.tasks.noop", "cron": "0 3 * * *"}}\n'
    )
    project.manage("migrate", "--verbosity", "0")
    assert "nightly" in project.manage("notifications", "schedules", "list")
