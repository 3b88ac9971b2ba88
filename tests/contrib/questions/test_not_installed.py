"""A project without the app: nothing shows that there is one, and an import says the line to add."""

import pytest

USE = """
import json, re
from uuid import uuid4
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, reverse
from notifications.api import notify
from notifications.jobs import cancel
from notifications.jobs.transitions import waiting
from notifications.models import Job, Notification, Wait
from notifications.testing import run_jobs
from notifications.times import now
from notifications.extension import Upkeep, Where
from mysite.pauses import rest
from tests.support.checks import doctor

assert not [table for table in connection.introspection.table_names() if "question" in table]
assert not Permission.objects.filter(codename__contains="question").exists()
assert doctor("tables")[0]["state"] == "ok"
assert not [duty.name for duty in Upkeep(Where.WORKER, seconds=1).duties if "question" in duty.name]
for name in ("question", "api-job-answer"):
    try:
        reverse(f"notifications:{name}", args=[uuid4(), uuid4()])
    except NoReverseMatch:
        print("no URL")

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
rest.using(owner=ada).enqueue()
run_jobs()
job = Job.objects.get()
# Of the time when the app was installed.
wait = Wait.objects.get()
Wait.objects.update(kind="question", title="Ship?", details='{"choices": {"yes": "Ship"}}', remind_at=now())
described = {"id": str(wait.id), "kind": "question", "title": "Ship?", "expires_at": None, "choices": {"yes": "Ship"}}
Job.objects.update(waiting=json.dumps(described))
(id,) = notify(ada, "Ship?", url=f"/notifications/jobs/{job.id}/questions/{wait.id}/")
Notification.objects.filter(id=id).update(open_question=wait.id)
item = client.get(f"/notifications/api/jobs/{job.id}/").json()
assert item["waiting"]["links"] == {"answer": None, "page": f"/notifications/jobs/{job.id}/"}
pages = ["", f"{id}/", f"jobs/{job.id}/"]
for path in [*(f"/notifications/{page}" for page in pages), f"/admin/notifications/job/{job.id}/change/"]:
    response = client.get(path)
    assert response.status_code == 200, path
    assert "question.js" not in response.text and 'value="yes"' not in response.text, path
run_jobs()
try:
    call_command("notifications", "jobs", "answer", str(job.id), "yes")
except CommandError as exc:
    print(exc)
cancel([job.id])
assert (Job.objects.get().state, Wait.objects.get().how) == ("cancelled", "")
for module in ("models", "answering"):
    try:
        __import__(f"notifications.contrib.questions.{module}")
    except ImproperlyConfigured as exc:
        print(exc)
"""
REST = """# mysite/pauses.py
from datetime import timedelta
from notifications.api import pause, task


@task
def rest():
    pause("rest", timedelta(days=1))
"""
ASK = """# mysite/asking.py
from notifications.api import task
from notifications.contrib.questions import question


@task
def ask():
    return question("Ship?", name="ship", choices={"yes": "Ship"})
"""
ANSWER = """
from django.contrib.auth.models import Permission, User
from notifications.contrib.questions.testing import answer_question
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from mysite.asking import ask

ask.using(owner=User.objects.get_or_create(username="ada")[0]).enqueue()
run_jobs()
if Job.objects.get().state == "failed":
    print(Attempt.objects.get().traceback.splitlines()[-1])
else:
    answer_question("yes")
    run_jobs()
    print(Job.objects.get().result, [str(each) for each in Permission.objects.filter(codename="answer_question")])
"""
LINE = 'Add "notifications.contrib.questions" to INSTALLED_APPS, and run manage.py migrate.'


def test_nothing_shows_it(project):
    project.write(REST)
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    assert printed[:2] == ["no URL"] * 2
    assert LINE in printed[2]
    assert printed[3:] == [f"notifications.contrib.questions is not installed. {LINE}"] * 2
    assert "no issues" in project.manage("check")


def test_a_task_that_asks(project):
    """Its module can be imported. Its jobs fail, and say why."""
    project.write(ASK)
    assert LINE in project.manage("shell", "--no-imports", "-c", ANSWER)


@pytest.mark.nightly
def test_it_is_installed_by_one_line(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.questions"]\n')
    assert "notifications_questions.0001_initial" in project.manage("shell", "--no-imports", "-c", PENDING)
    project.manage("migrate", "--verbosity", "0")
    assert "'state': 'ok'" in project.manage("shell", "--no-imports", "-c", PENDING)
    project.write(ASK)
    printed = project.manage("shell", "--no-imports", "-c", ANSWER)
    assert printed.strip() == ("\"yes\" ['Questions | question | Can answer the questions of all jobs']")


PENDING = "from tests.support.checks import doctor; print(doctor('tables'))"
