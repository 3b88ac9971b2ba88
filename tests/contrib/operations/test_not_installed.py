"""A project without the app: nothing shows that there is one, and the core's lists of the admin work."""

import pytest

pytestmark = pytest.mark.nightly

USE = """
import re
from html import unescape
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from notifications.extension import Upkeep, Where
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.checks import doctor

tables = connection.introspection.table_names()
assert not [table for table in tables if re.search("alert|statistics|overview|operations", table)]
permissions = Permission.objects.values_list("codename", flat=True)
assert not [name for name in permissions if re.search("alert|statistics|overview", name)]
assert doctor("tables")[0]["state"] == "ok"
names = {duty.name for duty in Upkeep(Where.WORKER, seconds=0).duties}
assert not [name for name in names if re.search("alert|statistics|announce", name)]
assert not [each for each in doctor() if "alert" in each["check"]]

ada = User.objects.create_superuser("ada")
client = Client()
client.force_login(ada)
failed, queued = (task.using(owner=ada).enqueue().id for task in (tasks.fail, tasks.noop))
Job.objects.filter(id=queued).update(run_after="2100-01-01T00:00Z", due_at="2100-01-01T00:00Z")
run_jobs()
assert [str(job.id) for job in Job.objects.filter(state="failed")] == [failed]
(note,) = Notification.objects.all()
jobs, notes = "/admin/notifications/job/", "/admin/notifications/notification/"
pages = ["/admin/", jobs, notes, f"{jobs}{failed}/change/", f"{notes}{note.pk}/change/", "/notifications/"]
for path in pages:
    response = client.get(path)
    assert response.status_code == 200, path
    main = response.text[response.text.index('id="content"') if "admin" in path else 0:]
    assert not re.search(r"[Oo]verview/|Alerts|name=.created_from", main), (path, main)


def titles(query):
    response = client.get(query)
    assert response.status_code == 200, (query, response.headers)
    return [row.title for row in response.context_data["cl"].result_list]


fail, noop = (Job.objects.get(id=id).title for id in (failed, queued))
links = re.findall(r'href="([^"]*job/[?][^"]*)"', client.get(f"{jobs}{failed}/change/").text)
assert [titles(unescape(link)) for link in links] == [[fail], [noop, fail], [fail]], links
assert titles(jobs) == [noop, fail]
assert titles(f"{jobs}?state__exact=failed") == [fail]
assert titles(f"{jobs}?state__exact=failed&task_path=tests.jobs.tasks.noop") == []
assert titles(f"{jobs}?user=ada&queue_name=default") == [noop, fail]
assert titles(f"{jobs}?user=eve") == titles(f"{jobs}?worker=no-such-host") == []
assert titles(f"{jobs}?q={queued}") == [noop]
assert titles(f"{notes}?read=unread&user=ada") == [note.title]
assert titles(f"{notes}?level=info") == []
for query in ("created=hour", "state__exact=x", "batch=x", "priority=0"):
    assert client.get(f"{jobs}?{query}").status_code in (302, 400), query


def change(action, **form):
    response = client.post(jobs, {"action": action, "_selected_action": [failed, queued], **form})
    assert response.status_code == 302 or "Reschedule" in response.text
    assert "done in the background" not in response.text


change("reschedule_jobs")
change("reschedule_jobs", confirmed="1", run_at="2099-01-01T00:00")
assert Job.objects.get(id=queued).run_after.year in (2098, 2099)
change("retry_jobs")
assert Job.objects.get(id=failed).state == "queued"
change("run_jobs_now")
assert Job.objects.get(id=queued).run_after is None
change("cancel_jobs", select_across="1")
assert {job.state for job in Job.objects.all()} == {"queued"}
change("cancel_jobs")
assert {job.state for job in Job.objects.all()} == {"cancelled"}

assert client.get("/notifications/metrics/").status_code == 404
assert client.get("/admin/notifications_operations/overview/").status_code == 404
try:
    call_command("notifications", "jobs", "stats")
except CommandError as exc:
    print(exc)
tasks.noop.using(queue_name="mail").enqueue(), tasks.noop.enqueue()
call_command("notifications", "jobs", "cancel", "--queue", "mail")
for module in ("models", "statistics.reading", "alerts.conditions", "admin"):
    try:
        __import__(f"notifications.contrib.operations.{module}")
    except ImproperlyConfigured as exc:
        print(exc)
assert not [model for model in apps.get_models() if model.__name__ in ("Alert", "JobStatistics")]
"""
LINE = 'Add "notifications.contrib.operations" to INSTALLED_APPS, and run manage.py migrate.'


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    assert LINE in printed[0]
    assert printed[1] == "1 job cancelled, or requested to end."
    assert printed[2:] == [f"notifications.contrib.operations is not installed. {LINE}"] * 4
    assert "no issues" in project.manage("check")


def test_it_is_installed_by_one_line(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.operations"]\n')
    project.manage("migrate", "--verbosity", "0")
    assert "queue" in project.manage("notifications", "jobs", "stats")
