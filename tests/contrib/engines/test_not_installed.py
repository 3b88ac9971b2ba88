"""A project without the app runs jobs itself, and a backend with an engine names the line to add."""

USE = """
import sys
from django.contrib.auth.models import User
from django.test import Client
from notifications.extension import Upkeep, Where
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.checks import doctor

assert not [name for name in sys.modules if name.startswith("notifications.contrib")]
names = {duty.name for duty in Upkeep(Where.WORKER, seconds=0).duties}
assert not [name for name in names if "engine" in name]
assert not [each for each in doctor() if "engine" in each["check"]]
assert doctor("ready", live=True)[0]["remedy"].startswith("Start one: manage.py run_jobs")
ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
id = tasks.noop.using(owner=ada).enqueue().id
for path in ("notifications/job/", f"notifications/job/{id}/change/"):
    assert client.get(f"/admin/{path}").status_code == 200, path
run_jobs()
assert Job.objects.get().state == "succeeded"
print("done")
"""
#: One deploy has removed the backend and the app, while jobs were queued for the engine.
REMOVED = """
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks

for executor in ("async", "sync", "quarantined", "sender", "email"):
    Job.objects.filter(id=tasks.noop.enqueue().id).update(executor=executor, backend="removed")
run_jobs()
print(*Job.objects.values_list("state", flat=True))
"""
TASKS = """
TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": [], "OPTIONS": {"engine": "x.y"}}}
"""


def test_jobs_run_without_it(project):
    assert project.manage("shell", "--no-imports", "-c", USE).splitlines() == ["done"]


def test_jobs_that_were_queued_for_an_engine(project):
    assert project.manage("shell", "--no-imports", "-c", REMOVED).split() == ["succeeded"] * 5


def test_a_backend_with_an_engine(project):
    project.add_settings(TASKS)
    _, _, errors = project.try_command("check")
    assert "notifications.E007" in errors
    assert 'Add "notifications.contrib.engines" to INSTALLED_APPS' in errors
