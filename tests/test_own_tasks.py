"""The tasks of the app itself: only the app enqueues them, and no argument of one says who acts."""

import inspect
import json
import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

import notifications
from notifications.extension import hooks
from notifications.models import Job
from notifications.testing import run_jobs
from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.jobs import tasks
from tests.support.django_tasks import Task

pytestmark = pytest.mark.django_db(transaction=True)

CHANGE = "notifications.contrib.operations.admin.bulk_changes.change_matching_jobs"
PACKAGE = Path(notifications.__file__).parent
#: Parameters that look like who acts, and what they are.
NO_ACTORS = {
    "deliver": "user",  # the reader, by whom the jobs of senders are limited
    "deliver_async": "user",
    "deliver_digest": "user",
    "deliver_digest_async": "user",
}


def find_tasks():
    """Return the tasks of all modules of the package that decorate functions, by their paths."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        if not re.search(r"^@\w*task\b", file.read_text(), re.MULTILINE):
            continue
        module = import_module(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
        own = [each for each in vars(module).values() if isinstance(each, Task)]
        found |= {each.module_path: each for each in own if each.func.__module__ == module.__name__}
    return found


TASKS = find_tasks()


def test_each_of_them_is_found():
    """What extensions say of jobs is about these too: a path that is none would be about no job."""
    assert len(TASKS) >= 12 and hooks.own_tasks.keys() <= TASKS.keys()


def test_no_argument_says_who_acts():
    actors = {"user", "by", "actor", "sender", "owner", "requester", "username"}
    for path, each in TASKS.items():
        named = actors.intersection(inspect.signature(each.func).parameters)
        assert named <= {NO_ACTORS.get(path.rpartition(".")[2])}, path


def find_warnings(setting):
    return [message for message in run_checks() if f"NOTIFICATIONS['{setting}']" in message.msg]


@pytest.mark.parametrize("path", sorted(TASKS))
class TestNothingEnqueuesThem:
    def test_no_form_of_the_admin(self, client, sign_in_staff, user, path):  # noqa: F811
        sign_in_staff("view_job", "view_job_arguments", "add_job")
        job = Job.objects.get(pk=tasks.fail.using(owner=user).enqueue().id)
        Job.objects.filter(pk=job.pk).update(task_path=path)
        page = f"/admin/notifications/job/{job.pk}"
        assert f"{page}/run/" not in client.get(f"{page}/change/").text
        for send in (client.get, client.post):
            response = send(f"{page}/run/", follow=True)
            assert response.redirect_chain == [(f"{page}/change/", 302)]
            assert "Only jobs of tasks of the project" in response.text
        assert Job.objects.count() == 1

    def test_no_command(self, path):
        with pytest.raises(CommandError, match="Only its app enqueues it"):
            call_command("notifications", "jobs", "enqueue", path)

    def test_no_schedule(self, settings, path):
        schedule = {"task": path, "every": timedelta(hours=1)}
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": {"own": schedule}}
        [wrong] = find_warnings("SCHEDULES")
        assert wrong.id == "notifications.W021" and "Only its app enqueues it" in wrong.msg

    def test_no_handler(self, settings, path):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": {"job.failed": [path]}}
        [wrong] = find_warnings("HANDLERS")
        assert wrong.id == "notifications.W027" and "Only its app enqueues it" in wrong.msg


def enqueue_change(owner):
    arguments = {"title": "Cancel", "change": "cancel", "conditions": {}, "count": None}
    return TASKS[CHANGE].using(owner=owner).enqueue(**arguments).id


def test_jobs_are_changed_in_the_name_of_the_owner(admin_user, user, make_user):
    """With the permissions of the owner, and no others."""
    later = tasks.noop.using(owner=user).enqueue().id
    Job.objects.filter(pk=later).update(run_after="2100-01-01T00:00Z", due_at="2100-01-01T00:00Z")
    for owner in (None, user, make_user("staff", is_staff=True)):
        id = enqueue_change(owner)
        run_jobs()
        refused = Job.objects.get(pk=id)
        assert refused.state == "failed", owner
        assert "no longer has the permission" in json.loads(refused.error)["detail"]
    assert Job.objects.get(pk=later).state == "queued" and not LogEntry.objects.exists()
    enqueue_change(admin_user)
    run_jobs()
    assert Job.objects.get(pk=later).state == "cancelled"
    assert set(LogEntry.objects.values_list("user", flat=True)) == {admin_user.pk}
