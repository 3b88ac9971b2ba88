"""A project without the app: nothing shows that there is one, and what needs it says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

LINE = 'Add "notifications.contrib.output" to INSTALLED_APPS, and run manage.py migrate.'

TASKS = """
from notifications.api import task
from notifications.contrib.output import output

@task
def write():
    output("text")

@task
def keep_silent():
    pass
"""
USE = """
import re
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.template import TemplateSyntaxError, engines
from django.test import Client
from mysite.tasks import keep_silent, write
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from tests.support.checks import doctor

assert not [table for table in connection.introspection.table_names() if "output" in table]
assert not Permission.objects.filter(codename__contains="output").exists()
assert doctor("tables")[0]["state"] == "ok"

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
jobs = [task.using(owner=ada).enqueue().id for task in (keep_silent, write)]
client.get(f"/notifications/jobs/{jobs[0]}/").text  # while it is active
run_jobs()
states = [Job.objects.get(id=id).state for id in jobs]
assert states == ["succeeded", "failed"], states
for id in jobs:
    note = Job.objects.get(id=id)
    for path in (f"/notifications/jobs/{id}/", f"/admin/notifications/job/{id}/change/"):
        response = client.get(path)
        assert response.status_code == 200, path
        main = re.sub("<script.*?</script>", "", response.text, flags=re.DOTALL)
        assert not re.search("notifications-output|job-part-output|Output<", main), (path, main)
    response = client.get(f"/notifications/api/jobs/{id}/output/")
    assert response.status_code == 404, response.status_code
    assert client.get(f"/notifications/api/jobs/{id}/").status_code == 200
assert "/jobs/{id}/output/" not in client.get("/notifications/api/openapi.json").json()["paths"]
call_command("notifications", "jobs", "show", jobs[0])
print(Attempt.objects.get().traceback.splitlines()[-1])
try:
    call_command("notifications", "jobs", "output", jobs[0])
except CommandError as exc:
    print(exc)
try:
    engines["django"].from_string("{% load notifications_output %}")
except TemplateSyntaxError as exc:
    print("notifications_output" in str(exc))
try:
    import notifications.contrib.output.models
except Exception as exc:
    print(exc)
"""


@pytest.fixture
def project(project):
    """It has tasks, too."""
    (project.folder / "mysite/tasks.py").write_text(TASKS)
    return project


def test_nothing_shows_it(project):
    *_, traceback, command, tag, models = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    assert traceback.endswith(f"ImproperlyConfigured: notifications.contrib.output is not installed. {LINE}")
    assert LINE in command
    assert tag == "True"
    assert models == f"notifications.contrib.output is not installed. {LINE}"
    assert "no issues" in project.manage("check")


def test_it_is_installed_by_one_line(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.output"]\n')
    assert "notifications_output.0001_initial" in project.manage("shell", "--no-imports", "-c", PENDING)
    project.manage("migrate", "--verbosity", "0")
    assert "'state': 'ok'" in project.manage("shell", "--no-imports", "-c", PENDING)
    printed = project.manage("shell", "--no-imports", "-c", WRITE)
    assert printed.splitlines()[-1] == "text"


PENDING = "from tests.support.checks import doctor; print(doctor('tables'))"
WRITE = """
from mysite.tasks import write
from notifications.contrib.output.testing import output
from notifications.testing import run_jobs
job = write.enqueue()
run_jobs()
print(output(job))
"""
