"""A project without the app: nothing shows that there is one, and a call says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

LINE = 'Add "notifications.contrib.steps" to INSTALLED_APPS, and run manage.py migrate.'

TASKS = """
from datetime import timedelta
from notifications.api import pause, task
from notifications.contrib.steps import astep, step

@task
def charge():
    return step("charge", str, 7)

@task
async def acharge():
    return await astep("charge", str, 7)

@task
def wait():
    pause("nap", timedelta(hours=1))
"""
USE = """
import io
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from mysite.tasks import acharge, charge, wait
from notifications.jobs import retry
from notifications.models import Attempt, Job
from notifications.testing import run_until_idle
from tests.support.checks import doctor

assert not [table for table in connection.introspection.table_names() if "step" in table]
assert not Permission.objects.filter(codename__contains="step").exists()
assert doctor("tables")[0]["state"] == "ok"
assert charge.func() == "7"  # outside of a job the function is called

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
nap, *charges = [Job.objects.get(id=task.using(owner=ada).enqueue().id) for task in (wait, charge, acharge)]
run_until_idle()
nap.refresh_from_db()
assert nap.state == "succeeded"
for path in (f"/notifications/jobs/{nap.id}/", f"/admin/notifications/job/{nap.id}/change/"):
    assert ">nap<" in client.get(path).text, path  # waits are core
printed = io.StringIO()
call_command("notifications", "jobs", "show", nap.id, stdout=printed)
assert "nap: attempt 1" in printed.getvalue()
for job in charges:
    print(Attempt.objects.get(job=job).traceback.splitlines()[-1])
assert retry([charges[0].id], from_start=True)
ada.delete()
assert not Job.objects.exists()
try:
    import notifications.contrib.steps.models
except Exception as exc:
    print(exc)
"""


@pytest.fixture
def project(project):
    """It has tasks, too."""
    (project.folder / "mysite/tasks.py").write_text(TASKS)
    return project


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    for line in printed[-3:]:
        assert line.endswith(f"notifications.contrib.steps is not installed. {LINE}")
    assert "no issues" in project.manage("check")


def test_it_is_installed_by_one_line(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.steps"]\n')
    assert "notifications_steps.0001_initial" in project.manage("shell", "--no-imports", "-c", PENDING)
    project.manage("migrate", "--verbosity", "0")
    assert "'state': 'ok'" in project.manage("shell", "--no-imports", "-c", PENDING)
    assert project.manage("shell", "--no-imports", "-c", CHARGE).splitlines()[-1] == "{'charge': '7'}"


PENDING = "from tests.support.checks import doctor; print(doctor('tables'))"
CHARGE = """
from mysite.tasks import charge
from notifications.contrib.steps.testing import steps
from notifications.testing import run_jobs
job = charge.enqueue()
run_jobs()
print(steps(job))
"""
