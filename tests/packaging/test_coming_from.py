"""The pages for users of other packages, followed in a project that uses the newest version of the package."""

import json
import re
import shlex

import pytest

from tests.docs.pages import DOCS, blocks
from tests.packaging.host_project import HostProject
from tests.packaging.test_wheel import run
from tests.support.processes import Process
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600), pytest.mark.nightly]

#: What the pages call `mysite/tasks.py`: a function that notes each of its calls.
FUNCTION = """
def export(year):
    with open("calls.txt", "a") as file:
        file.write(f"{year} ")
    return {"year": year}
"""
START = """
from django.contrib.auth.models import User
from django.test import RequestFactory
from mysite import views
request = RequestFactory().post("/exports/")
request.user = User.objects.get()
assert views.start(request).status_code == 202
"""
READ_JOBS = """
import json
from django.contrib.auth.models import User
from notifications.api import jobs_of
print(json.dumps([[job.title, job.state, job.result] for job in jobs_of(User.objects.get())]))
"""


#: Run by django-notifications-hq, and then by this app, which both have as `notifications`.
NOTIFY_BEFORE = """
import json
from django.contrib.auth.models import User
from notifications.signals import notify
ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
for number in range(30):
    notify.send(bob, recipient=ada, verb=f"did {number}", action_object=bob, target=ada if number % 2 else None)
for row in ada.notifications.all()[:11]:
    row.mark_as_read()
print(json.dumps({row.pk: [str(row), row.unread] for row in ada.notifications.all()}))
"""
READ_NOTIFICATIONS = """
import json
from django.contrib.auth.models import User
from notifications.api import notifications_of, unread_count
ada = User.objects.get(username="ada")
rows = {row.data["hq"]: [row.title, row.read_at is None] for row in notifications_of(ada)}
print(json.dumps([rows, unread_count(ada)]))
"""


class Queue(HostProject):
    """A project with another queue, in which a task waits when this app is added."""

    #: Settings of the other package, the decorator of its tasks, what enqueues one, what counts those that wait, and
    #: its worker.
    other, decorator, call, count, worker = "", "", "", "", ""
    guide = ""

    def add_app(self):
        super().add_app()
        self.append(self.settings, self.other)

    def add_tasks(self, name):
        self.write(name, f"{self.decorator}{FUNCTION}")

    def count_waiting(self):
        return int(self.shell(f"{self.count}\nprint(count)").split()[-1])


class Huey(Queue):
    packages = ("huey",)
    other = """
INSTALLED_APPS += ["huey.contrib.djhuey"]
HUEY = {"huey_class": "huey.SqliteHuey", "filename": "huey.db", "immediate": False}
"""
    decorator = "from huey.contrib.djhuey import db_task\n\n@db_task()"
    call = "from mysite.tasks import export; export(2026)"
    count = "from huey.contrib.djhuey import HUEY; count = HUEY.pending_count() + HUEY.scheduled_count()"
    worker = "run_huey"
    guide = "from-huey.md"


class DjangoQ2(Queue):
    packages = ("django-q2",)
    other = """
INSTALLED_APPS += ["django_q"]
Q_CLUSTER = {"name": "mysite", "orm": "default", "workers": 1, "poll": 0.2, "timeout": 60, "retry": 90}
"""
    call = 'from django_q.tasks import async_task; async_task("mysite.tasks.export", 2026)'
    count = "from django_q.tasks import queue_size; count = queue_size()"
    worker = "qcluster"
    guide = "from-django-q2.md"


@pytest.mark.parametrize("kind", [Huey, DjangoQ2])
def test_from_a_queue(kind, tmp_path, wheel, postgres):
    """What is enqueued from now on is a job. What waited runs in the worker of before, until nothing waits."""
    project = kind(tmp_path, wheel, postgres)
    project.make()
    project.shell(project.call)
    assert project.count_waiting() == 1
    for block in blocks(DOCS / "how-to" / project.guide, "python"):
        project.write(block.split()[1], block)
    project.shell(START)
    project.manage("run_jobs", "--until-idle")
    assert json.loads(project.shell(READ_JOBS)) == [["Export 2026", "succeeded", {"year": 2026}]]
    calls = project.folder / "calls.txt"
    assert (calls.read_text(), project.count_waiting()) == ("2026 ", 1)
    worker = Process(
        [project.python, "manage.py", project.worker],
        log=project.folder / "worker.log",
        cwd=project.folder,
        env=project.env,
    )
    try:
        worker.wait_until(lambda: calls.read_text() == "2026 2026 ", what="the old task to run")
        wait_until(lambda: project.count_waiting() == 0, what="the old queue to be empty")
    finally:
        worker.stop()


class Ox(HostProject):
    packages = ("django-ox",)

    def add_app(self):
        super().add_app()
        self.append(self.settings, 'INSTALLED_APPS += ["django_ox"]\n')
        self.write("mysite/before.py", BEFORE_SWITCH)


BEFORE_SWITCH = """
from .settings import *
TASKS = {"default": {"BACKEND": "django_ox.backend.OxBackend", "QUEUES": []}}
"""
ENQUEUE_THEM = """
from mysite.tasks import add
add.using(queue_name="mail", priority=7).enqueue(1, b=1)
"""
MOVE = """
from django.utils.module_loading import import_string
from django_ox.models import OxTask
for row in OxTask.objects.filter(status="READY"):
    {task}.enqueue(*row.args, **row.kwargs)
    row.delete()
"""
READ_ALL = """
from notifications.models import Job
print(list(Job.objects.values_list("state", "result", "queue_name", "priority")))
"""


def test_from_django_ox(tmp_path, wheel, postgres):
    """What waits in its table becomes a job with its queue and priority."""
    project = Ox(tmp_path, wheel, postgres)
    project.make()
    settings = {"DJANGO_SETTINGS_MODULE": "mysite.before"}
    project.env |= settings
    project.shell(ENQUEUE_THEM)
    project.env = {key: value for key, value in project.env.items() if key not in settings}
    text = (DOCS / "how-to/from-django-tasks-db.md").read_text()
    [task] = re.findall(r"`(import_string\(row\.task_path\)[^`]+)`", text)
    for _ in range(2):
        project.shell(MOVE.format(task=task))
    project.manage("run_jobs", "--until-idle")
    assert project.shell(READ_ALL).splitlines()[-1] == "[('succeeded', '2', 'mail', 7)]"


class EventStream(HostProject):
    packages = ("django-eventstream",)

    def add_app(self):
        super().add_app()
        self.append(
            self.settings,
            'INSTALLED_APPS += ["django_eventstream"]\n'
            'EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"\n',
        )
        self.append(
            self.urls,
            'urlpatterns += [path("events/", include("django_eventstream.urls"), {"channels": ["all"]})]\n',
        )


SEND_BOTH = """
from django.contrib.auth.models import User
from django_eventstream import send_event
from django_eventstream.models import Event
from notifications.api import unread_count
user = User.objects.get()
send_event(f"user-{{user.pk}}", "message", {{"year": 2026}})
{now}
print(Event.objects.filter(type="message").count(), unread_count(user))
"""


def test_from_django_eventstream(tmp_path, wheel, postgres):
    """Both run side by side."""
    project = EventStream(tmp_path, wheel, postgres)
    project.make()
    [now] = blocks(DOCS / "how-to/from-group-send.md", "python", "From django-eventstream")
    assert project.shell(SEND_BOTH.format(now=now)).split()[-2:] == ["1", "1"]


class Hq(HostProject):
    """The database of a project that has django-notifications-hq, in an environment of its own, before this app."""

    def make(self):
        self.folder.mkdir()
        self.install()
        self.generate()
        self.write("mysite/before.py", 'from .settings import *\nINSTALLED_APPS += ["notifications"]\n')
        python = self.folder.parent / "before/bin/python"
        # The newest Django with which its models can be imported.
        self.install_into(python, "Django<5.1", "django-notifications-hq", "setuptools")
        env = {**self.env, "DJANGO_SETTINGS_MODULE": "mysite.before"}
        run(python, "manage.py", "migrate", "-v0", cwd=self.folder, env=env)
        printed = run(python, "manage.py", "shell", "-c", NOTIFY_BEFORE, cwd=self.folder, env=env)
        self.before = json.loads(printed.splitlines()[-1])
        self.add_app()


def test_from_django_notifications_hq(tmp_path, wheel, postgres):
    """Each notification has the words that it had, and is as unread as it was."""
    project = Hq(tmp_path, wheel, postgres)
    project.make()
    page = DOCS / "how-to/from-django-notifications-hq.md"
    project.write("mysite/hq.py", blocks(page, "python")[1])
    for command in blocks(page, "sh")[0].splitlines():
        project.manage(*shlex.split(command)[2:])
    rows, unread = json.loads(project.shell(READ_NOTIFICATIONS).splitlines()[-1])
    assert rows.keys() == project.before.keys() and len(rows) == 30
    assert unread == sum(is_unread for _, is_unread in project.before.values()) == 19
    for number, (title, is_unread) in rows.items():
        text, was_unread = project.before[number]
        assert text.startswith(f"{title} ") and text.endswith(" ago")
        assert is_unread is was_unread
