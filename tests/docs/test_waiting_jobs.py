"""Steps, questions, callbacks and output: the first task of each page, run in a fresh project by `runserver`."""

import json
import re
import sqlite3
from contextlib import closing
from urllib.request import Request, urlopen

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import INSTALL, Project
from tests.support.network import free_port, is_listening
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

#: Those of the pages.
APPS = [f"notifications.contrib.{name}" for name in ("output", "questions", "steps", "webhooks")]
URLS = """# mysite/urls.py
from django.urls import include, path

urlpatterns = [path("notifications/", include("notifications.urls"))]
"""
ENQUEUE = """
from django.contrib.auth import get_user_model
from mysite.{module} import {task}
ada, _ = get_user_model().objects.get_or_create(username="ada")
print({task}.using(owner=ada).enqueue({argument!r}).id)
"""
#: What the pages leave to the reader. Each call is a line of the file calls.txt.
STUBS = """
from pathlib import Path


def note(*values):
    with open("calls.txt", "a") as file:
        print(*values, file=file)
    return Path("calls.txt").read_text()
"""


class Followed(Project):
    """Its server, which runs the jobs too, listens on `url`."""

    def serve(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.add_settings(f"NOTIFICATIONS = {{'SITE_URL': '{self.url}'}}\nINSTALLED_APPS += {APPS}\n")
        self.manage("migrate", "--verbosity", "0")
        self.write(URLS)
        asgi, [line] = self.folder / "mysite/asgi.py", re.findall("^from .*asgi.*", INSTALL.read_text(), re.M)
        asgi.write_text(re.sub("^from .*asgi.*", line, asgi.read_text(), flags=re.M))
        server = self.start("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
        server.wait_until(lambda: is_listening(port), what="the server to listen")

    def follow(self, page, stubs):
        """Make a module of the first block of a page with a task, and of what it leaves to the reader."""
        block = next(block for block in blocks(DOCS / f"how-to/{page}.md", "python") if "@task" in block)
        self.write(f"# mysite/{page}.py\n{block}\n{STUBS}\n{stubs}")

    def enqueue(self, module, task, argument=7):
        code = ENQUEUE.format(module=module, task=task, argument=argument)
        return self.manage("shell", "--no-imports", "-c", code).split()[-1]

    def wait_for_state(self, id, state):
        def read():
            with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=60)) as connection:
                query = "SELECT state FROM notifications_job WHERE id = ?"
                return connection.execute(query, [id.replace("-", "")]).fetchone() == (state,)

        wait_until(read, what=f"the job to be {state}", timeout=90)

    @property
    def calls(self):
        return (self.folder / "calls.txt").read_text().splitlines()


@pytest.fixture
def project(tmp_path):
    project = Followed(tmp_path)
    project.serve()
    yield project
    project.close()


def test_steps_are_paid_once(project):
    """The second step fails once: the first one is not made again."""
    project.follow(
        "steps",
        """
async def charge(order_id):
    note("charge", order_id)
    return {"id": "p1"}


def print_label(order_id, payment):
    if "label" not in note("label", order_id, payment).partition("label")[2]:
        raise outbound.TEMPORARY[0]("down")
    return {"number": "L9"}


def send_mail(order_id, number):
    note("mail", order_id, number)
""",
    )
    id = project.enqueue("steps", "ship")
    project.wait_for_state(id, "succeeded")
    assert project.calls == ["charge 7", "label 7 p1", "label 7 p1", "mail 7 L9"]


def test_a_question_is_answered(project):
    project.follow(
        "questions",
        """
def find_new_address(order_id):
    note("find", order_id)
    return "Elm Street"


def send_parcel(order_id, address):
    note("send", order_id, address)
""",
    )
    id = project.enqueue("questions", "ship")
    project.wait_for_state(id, "waiting")
    assert "Ship to Elm Street?" in project.manage("shell", "--no-imports", "-c", TITLES)
    project.manage("notifications", "jobs", "answer", id, "yes")
    project.wait_for_state(id, "succeeded")
    assert project.calls == ["find 7", "send 7 Elm Street"]


TITLES = "from notifications.models import Notification; print([*Notification.objects.values_list('title')])"


def test_a_webhook_is_awaited(project):
    project.follow(
        "callbacks",
        """
class bank:
    @staticmethod
    def ask(order_id, url):
        note("ask", order_id, url)


def ship(order_id):
    note("ship", order_id)
""",
    )
    id = project.enqueue("callbacks", "pay")
    project.wait_for_state(id, "waiting")
    [asked] = project.calls
    body, headers = json.dumps({"approved": True}).encode(), {"Content-Type": "application/json"}
    with urlopen(Request(asked.split()[-1], body, headers, method="POST")) as response:
        assert response.status == 204
    project.wait_for_state(id, "succeeded")
    assert project.calls == [asked, "ship 7"]


def test_output_is_stored(project):
    project.follow(
        "output",
        """
def read(path):
    return ["ok", "bad", "ok"]


def check(row):
    return "" if row == "ok" else "not a number"
""",
    )
    id = project.enqueue("output", "import_rows", "rows.csv")
    assert project.manage("notifications", "jobs", "output", id) == "Row 2: not a number\n"
