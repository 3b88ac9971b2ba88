"""A project takes optional apps out, goes on without them, and installs them again."""

import json

import pytest

from tests.docs.project import Project

pytestmark = [pytest.mark.nightly, pytest.mark.nightly_on_old_django]

APPS = ["deliveries", "webhooks", "steps", "output", "questions", "broadcasts"]
INSTALL = "INSTALLED_APPS += [f'notifications.contrib.{{app}}' for app in {}]\n"
URLS = """
from django.urls import include, path

urlpatterns = [path("notifications/", include("notifications.urls"))]
"""
ASK = """# mysite/asking.py
from datetime import timedelta
from django.contrib.auth import get_user_model
from notifications.api import task
from notifications.contrib.questions import question


@task
def ask(name):
    bob = get_user_model().objects.get(username="bob")
    return question("Ship?", name=name, choices={"yes": "Ship"}, expires=timedelta(days=1), to=[bob])
"""
WITH_THEM = """
from datetime import timedelta
from uuid import uuid4
from django.contrib.auth.models import User
from django.utils import timezone
from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.deliveries.models import Delivery, Preference, PushSubscription, Reader, Throttle
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.steps.models import Step
from notifications.contrib.webhooks.models import JobCallback, WebhookAttempt, WebhookEndpoint
from notifications.models import Job, Wait
from notifications.testing import run_jobs
from mysite.asking import ask
from mysite.tasks import add

now = timezone.now()
for name in ("ada", "bob"):
    user = User.objects.create_user(name)
    id, (note,) = uuid4(), notify(user, "Hello")
    job = add.using(owner=user).enqueue(1, 2).id
    Delivery.objects.create(notification=note, user=user, channel="email", due_at=now + timedelta(days=9))
    Throttle.objects.create(user=user, channel="email", ends_at=now + timedelta(days=9))
    Preference.objects.create(user=user, category="x", channel="email", choice="off", changed_at=now)
    PushSubscription.objects.create(user=user, endpoint=f"https://{name}", p256dh="x", auth="x", name="x",
                                    created_at=now, seen_at=now)
    Reader.objects.create(user=user)
    endpoint = WebhookEndpoint.objects.create(user=user, url=f"https://{name}/secret", events="x", secret=name,
                                              created_at=now)
    WebhookAttempt.objects.create(endpoint=endpoint.id, job=id, event="x", started_at=now, milliseconds=1)
    JobCallback.objects.create(job=job, url=f"https://{name}/callback")
    Step.objects.create(job=job, name="x", result="1", attempt=1, started_at=now, ended_at=now)
    for start in range(3):
        OutputChunk.objects.create(job=job, start=start, text=name, attempt=1, fence=1, created_at=now)
    Broadcast.objects.create(sender=user, level="info", title=name, audience_kind="staff", audience_text="x",
                             recipients=1, created_at=now)
for name in ("expires", "cancelled", "pruned"):
    ask.enqueue(name)
run_jobs()
Job.objects.filter(task_path="mysite.tasks.add").update(state="queued")
Job.objects.filter(user__username="bob").update(task_path="notifications.contrib.webhooks.sending.send")
assert Wait.objects.filter(ended_at=None).count() == 3
"""
WITHOUT_THEM = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
from notifications.jobs import cancel
from notifications.models import Job, Notification, Wait
from tests.support.duties import run_duty

Wait.objects.filter(name="expires").update(due_at=timezone.now() - timedelta(seconds=1))
run_duty("end waits that are due"), run_duty("cancel waits of ended jobs")
assert Wait.objects.filter(ended_at=None).count() == 3
for name in ("cancelled", "pruned"):
    cancel([Wait.objects.get(name=name).job])
assert Job.objects.filter(state="cancelled").count() == 2
assert not Wait.objects.exclude(ended_at=None).exists()
Job.objects.filter(id=Wait.objects.get(name="pruned").job).update(finished_at=timezone.now() - timedelta(days=99))
User.objects.get(username="ada").delete()
call_command("notifications", "prune")
assert Notification.objects.exclude(open_question=None).count() == 3
assert sorted(Wait.objects.values_list("name", flat=True)) == ["cancelled", "expires"]
"""
AFTER_RETURN = """
import json
from django.contrib.auth.models import User
from notifications.contrib.broadcasts.models import Broadcast
from notifications.models import Job, Notification, Wait
from django.apps import apps
from tests.support.duties import run_duty

for name in ("end waits that are due", "cancel waits of ended jobs", "close questions without a wait"):
    run_duty(name)
bob = User.objects.get()
print(json.dumps({
    "rows": {label: apps.get_model(label).objects.count() for label in %r},
    "names": sorted(User.objects.values_list("username", flat=True)),
    "senders": sorted(map(str, Broadcast.objects.values_list("sender__username", flat=True))),
    "waits": {wait.name: str(wait.how) for wait in Wait.objects.all()},
    "states": sorted(Job.objects.filter(task_path="mysite.asking.ask").values_list("state", flat=True)),
    "open": Notification.objects.exclude(open_question=None).count(),
    "unread": Notification.objects.filter(user=bob, read_at=None).count(),
    "bodies": sorted(Notification.objects.filter(title="Ship?").values_list("body", flat=True)),
    "numbered": not Notification.objects.filter(seq=None).exists(),
}))
"""
TABLES = [
    *(f"notifications_deliveries.{name}" for name in ("Delivery", "Throttle", "Preference")),
    *(f"notifications_deliveries.{name}" for name in ("PushSubscription", "Reader")),
    *(f"notifications_webhooks.{name}" for name in ("WebhookEndpoint", "WebhookAttempt", "JobCallback")),
    "notifications_steps.Step",
    "notifications_output.OutputChunk",
]


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    project.add_settings('NOTIFICATIONS = {"EMBEDDED_WORKER": False}\n')
    (project.folder / "mysite/urls.py").write_text(URLS)
    yield project
    project.close()


def run(project, script):
    return project.manage("shell", "--no-imports", "-c", script)


def find_apps(project):
    """Return what doctor says of apps."""
    _, output, _ = project.try_command("notifications", "doctor", "--json", "--timeout", "0.1")
    findings = {finding["check"]: finding for finding in map(json.loads, output.splitlines())}
    return findings["apps"]


def test_apps_that_are_taken_out_and_installed_again(project):
    """Nothing of a deleted user is left after a pruning, no question stays open, and doctor names what is left."""
    settings = project.folder / "mysite/settings.py"
    without = settings.read_text()
    project.add_settings(INSTALL.format(APPS))
    installed = settings.read_text()
    project.manage("migrate", "--verbosity", "0")
    project.write(ASK)
    run(project, WITH_THEM)
    assert find_apps(project)["state"] == "ok"

    settings.write_text(without)
    found = find_apps(project)
    assert found["state"] == "warning"
    assert "notifications_webhooks_webhookendpoint" in found["figures"]["tables"]
    assert found["figures"]["tasks"] == {"notifications.contrib.webhooks.sending.send": 1}
    assert found["figures"]["waits"] == {"question": 3}
    run(project, WITHOUT_THEM)

    settings.write_text(installed)
    project.manage("notifications", "prune")
    found = json.loads(run(project, AFTER_RETURN % TABLES).splitlines()[-1])
    assert found["names"] == ["bob"]
    assert found["rows"] == dict.fromkeys(TABLES, 1) | {"notifications_output.OutputChunk": 3}
    assert found["senders"] == ["None", "bob"]
    assert found["waits"] == {"expires": "expired", "cancelled": "cancelled"}
    assert found["states"] == ["cancelled", "queued"]
    assert found["open"] == 0 and found["unread"] == 2 and found["numbered"]
    texts = ["Nobody answered in time.", "The job was cancelled.", "The job was cancelled."]
    assert [body.splitlines()[0] for body in found["bodies"]] == texts
    assert find_apps(project)["state"] == "ok"

    project.manage("migrate", "notifications_webhooks", "zero", "--verbosity", "0")
    settings.write_text(without)
    tables = find_apps(project)["figures"]["tables"]
    assert tables and not [name for name in tables if "webhook" in name]
