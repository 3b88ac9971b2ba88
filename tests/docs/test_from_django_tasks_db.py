"""The page for users of django-tasks-db: what was queued before the switch is moved, or run by the other worker."""

import json
import re
import shlex

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import ENQUEUE, Project

pytest.importorskip("django_tasks_db", reason="django-tasks-db is not installed (see requirements-dev.txt).")
pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

PAGE = DOCS / "how-to/from-django-tasks-db.md"
BEFORE = """
INSTALLED_APPS += ["django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}}
"""
#: One due task, of a queue and a priority of its own, and one for later.
ENQUEUE_THEM = """
from datetime import timedelta
from django.utils import timezone
from mysite.tasks import add

add.using(queue_name="mail", priority=7).enqueue(1, b=1)
add.using(run_after=timezone.now() + timedelta(days=1)).enqueue(2, 1)
"""
READ = """
import json
from django_tasks_db.models import DBTaskResult
from notifications.models import Job

rows = DBTaskResult.objects.order_by("enqueued_at").values_list("status", "return_value")
jobs = Job.objects.order_by("id").values_list("state", "result", "queue_name", "priority", "run_after")
print(json.dumps([list(rows), [[*job, run_after is not None] for *job, run_after in jobs]]))
"""


@pytest.fixture
def project(tmp_path):
    """A project in which two tasks of django-tasks-db were queued."""
    project = Project(tmp_path)
    settings = (project.folder / "mysite/settings.py").read_text()
    project.add_settings(BEFORE)
    project.manage("migrate", "--verbosity", "0")
    project.manage("shell", "--no-imports", "-c", ENQUEUE_THEM)
    (project.folder / "mysite/settings.py").write_text(settings)
    yield project
    project.close()


def run_shell(project, code):
    return project.manage("shell", "--no-imports", "-c", code)


def read(project):
    """Return the rows of django-tasks-db, and the jobs."""
    return json.loads(run_shell(project, READ).splitlines()[-1])


def test_queued_tasks_are_moved(project):
    """They become jobs with their queue, priority and time, of which the due one runs."""
    switch, move, _ = blocks(PAGE, "python")
    project.write(switch)
    project.manage("check")
    for _ in range(2):  # a second run moves nothing again
        run_shell(project, move)
    rows, jobs = read(project)
    assert rows == [] and jobs == [["queued", None, "mail", 7, False], ["queued", None, "default", 0, True]]
    project.manage("run_jobs", "--until-idle")
    assert [job[:2] for job in read(project)[1]] == [["succeeded", "2"], ["queued", None]]


def test_the_other_worker_runs_them(project):
    """With the backend under another name; what is enqueued from now on is a job."""
    project.add_settings('INSTALLED_APPS += ["django_tasks_db"]\n')
    project.write(blocks(PAGE, "python")[2])
    [commands] = blocks(PAGE, "sh")
    rename, work = (shlex.split(line)[2:] for line in commands.splitlines())
    assert (rename[0], work[0]) == ("shell", "db_worker")
    run_shell(project, ENQUEUE.format(5))
    project.manage(*rename)
    project.manage(*work)
    rows, jobs = read(project)
    assert rows == [["SUCCESSFUL", 2], ["READY", None]]
    assert [job[:3] for job in jobs] == [["queued", None, "default"]]
    refused = project.try_command("db_worker", "--batch")
    assert refused[0] != 0 and re.search("'default' is not a database backend", refused[2])
