"""A project that was not written for this app observes its Celery tasks, after a diff of under ten lines.

``project`` is laid out as Celery's guide for Django has it, and sends its mail with django-post-office, whose tasks are
its own.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from asyncsite.environment import NAMES
from tests.support.celery_worker import require_celery
from tests.support.network import free_port, is_listening
from tests.support.processes import Process, run
from tests.support.requirements import skip_or_fail
from tests.support.site import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

FOLDER = Path(__file__).parent
MAX_CHANGED_LINES = 9
LOG_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
user = get_user_model().objects.create_user("ada")
client = Client()
client.force_login(user)
print(client.cookies["sessionid"].value)
"""


class Project:
    """A copy of the project, with the processes of its site."""

    def __init__(self, folder, broker_url):
        self.folder = folder / "project"
        shutil.copytree(FOLDER / "project", self.folder)
        inherited = {
            key: value for key, value in os.environ.items() if key not in (*NAMES, "DJANGO_SETTINGS_MODULE")
        }
        self.environment = inherited | {
            "PYTHONPATH": str(ROOT),
            "CELERY_BROKER_URL": broker_url,
            "PYTHONUNBUFFERED": "1",
        }
        self.processes = []
        self.session = ""
        self.port = free_port()

    def adopt(self, name):
        """Apply a diff, and return how many lines it adds or changes."""
        diff = (FOLDER / f"{name}.diff").read_text()
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=self.folder, check=True)
        return sum(
            line.startswith("+") and not line.startswith("+++") and bool(line[1:].strip())
            for line in diff.splitlines()
        )

    def manage(self, *arguments):
        return run(sys.executable, "manage.py", *arguments, cwd=self.folder, env=self.environment)

    def start(self):
        """Start the web server and a worker, with the commands of a project without this app."""
        self.manage("migrate", "--verbosity", "0")
        self.session = self.manage("shell", "-c", LOG_IN).split()[-1]
        web = self._start("manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}")
        worker = self._start(
            "-m", "celery", "-A", "proj", "worker", "-l", "INFO", "--pool", "threads", "--concurrency", "2"
        )
        web.wait_until(lambda: is_listening(self.port), what="the web server to listen")
        worker.wait_for_line(" ready.")
        return worker

    def get(self, path):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Cookie": f"sessionid={self.session}"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read().decode()

    def bell(self):
        """Return title and body of the user's notifications, oldest first."""
        items = json.loads(self.get("/notifications/api/notifications/"))["items"]
        return [(item["title"], item["body"]) for item in reversed(items)]

    def wait_for_bell(self, *expected):
        wait_until(lambda: self.bell() == list(expected), what=f"the bell to ring with {expected}")

    def close(self):
        for process in self.processes:
            process.stop()

    def _start(self, *command):
        log = self.folder / f"{len(self.processes)}.log"
        process = Process([sys.executable, *command], log=log, cwd=self.folder, env=self.environment)
        self.processes.append(process)
        return process


@pytest.fixture
def project(tmp_path, redis, request):
    """A copy of the project."""
    require_celery()
    try:
        import post_office  # noqa: F401
    except ImportError:
        skip_or_fail("django-post-office is not installed (pip install django-post-office).")
    # A database of its own: in that of other tests, messages of their tasks may wait.
    project = Project(tmp_path, redis.url.rpartition("/")[0] + "/7")
    yield project
    project.close()
    for process in project.processes:
        request.node.add_report_section("teardown", "process", process.output)


def test_a_project_as_in_celerys_guide(project):
    assert project.adopt("guide") <= MAX_CHANGED_LINES
    worker = project.start()
    assert project.get("/start/") == "Started."
    # Each returns a number.
    reports = {year: (f"Report for {year}", str(sum(range(year)))) for year in (2024, 2025, 2026)}
    project.wait_for_bell(reports[2026])
    assert project.get("/start-all/") == "Started."
    wait_until(lambda: len(project.bell()) == 4, what="the notifications of the group")
    assert sorted(project.bell()) == [reports[year] for year in (2024, 2025, 2026, 2026)]
    assert "<notifications-bell" in project.get("/")
    assert "Traceback" not in worker.output


def test_the_project_runs_without_this_app(project):
    """What it does before the diff, so that the tests of the diff mean something."""
    worker = project.start()
    assert project.get("/start/") == "Started."
    worker.wait_for_line("succeeded in")
    assert "notifications" not in project.get("/")


def test_tasks_of_a_package_by_the_settings(project):
    assert project.adopt("mailer") <= MAX_CHANGED_LINES
    worker = project.start()
    assert project.get("/invite/") == "Invited."
    project.wait_for_bell(("Send mail", "Succeeded."))
    [mail] = (project.folder / "sent").iterdir()
    assert "At noon." in mail.read_text()
    assert "Traceback" not in worker.output
