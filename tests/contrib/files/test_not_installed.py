"""A project without the app: nothing shows that there is one, and what needs it says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

LINE = 'Add "notifications.contrib.files" to INSTALLED_APPS, and run manage.py migrate.'
TASKS = """
from notifications.api import task
from notifications.contrib.files import add_file

@task
def export():
    add_file("orders.csv", ["1,2"])

@task
def keep_silent():
    pass
"""
USE = """
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from mysite.tasks import export, keep_silent
from notifications.models import Attempt, Job
from notifications.testing import run_jobs

assert not [table for table in connection.introspection.table_names() if "file" in table]
ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
jobs = [task.using(owner=ada).enqueue().id for task in (keep_silent, export)]
run_jobs()
assert [Job.objects.get(id=job).state for job in jobs] == ["succeeded", "failed"]
for job in jobs:
    for path in (f"/notifications/jobs/{job}/", f"/admin/notifications/job/{job}/change/"):
        response = client.get(path)
        assert response.status_code == 200 and ">Files<" not in response.text, path
assert client.get("/notifications/files/").status_code == 404
assert "My files" not in client.get("/notifications/").text
print(Attempt.objects.get().traceback.splitlines()[-1])
try:
    import notifications.contrib.files.models
except Exception as exc:
    print(exc)
"""
INSTALLED = """
from django.contrib.auth.models import User
from django.test import Client
from mysite.tasks import export
from notifications.testing import run_jobs
from notifications.contrib.files.models import ResultFile

bob = User.objects.create_user("bob")
client = Client()
client.force_login(bob)
export.using(owner=bob).enqueue()
run_jobs()
response = client.get(f"/notifications/files/{ResultFile.objects.get().pk}/")
print(b"".join(response.streaming_content).decode())
response.close()
"""


@pytest.fixture
def project(project):
    """It has tasks, too."""
    (project.folder / "mysite/tasks.py").write_text(TASKS)
    return project


def test_nothing_shows_it(project):
    *_, traceback, models = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    assert traceback.endswith(f"ImproperlyConfigured: notifications.contrib.files is not installed. {LINE}")
    assert models == f"notifications.contrib.files is not installed. {LINE}"
    assert "no issues" in project.manage("check")
    project.add_settings('NOTIFICATIONS = {"FILES": {"keep_days": 7}}\n')
    code, _, errors = project.try_command("check")
    assert code and LINE.partition(",")[0] in errors


def test_it_is_installed_by_one_line(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.files"]\n')
    project.manage("migrate", "--verbosity", "0")
    assert project.manage("shell", "--no-imports", "-c", INSTALLED).splitlines()[-1] == "1,2"
    assert [path.name for path in project.folder.glob("notifications_files/*/*/*/*")]
    assert "no issues" in project.manage("check")
