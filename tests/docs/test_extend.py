"""An extension as how-to/extend.md writes one, installed in the project of the quick start."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import Project
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

PAGE = DOCS / "how-to/extend.md"
URLS = """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("notifications/", include("notifications.urls"))]
"""
NOTIFY = """
from django.contrib.auth.models import User
from notifications.api import notify
ada = User.objects.create_superuser("ada")
notify(ada, "All is well")
[id] = notify(ada, "The disk is full", level="error")
print(id)
"""
READ = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get())
print("Sent by SMS." in client.get("/notifications/{id}/").text)
print("Sent by SMS." in client.get("/admin/notifications/notification/{id}/change/").text)
"""
PURGE = """
from django.contrib.auth.models import User
from sms.models import Message
print(Message.objects.count())
User.objects.get().delete()
print(Message.objects.count())
"""


@pytest.fixture
def gateway():
    """A server that takes text messages, and their addresses."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", paths
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    project.close()


def test_page_step_by_step(project, gateway):
    url, paths = gateway
    apps, models, sending, settings = blocks(PAGE, "python")
    for block in (apps, models, sending):
        project.write(block)
    project.write(settings, gateway=("https://sms.example.com/send", url))
    project.add_settings('ALLOWED_HOSTS = ["*"]\n')
    (project.folder / "sms/__init__.py").touch()
    (project.folder / "mysite/urls.py").write_text(URLS)
    project.manage("makemigrations", "sms")
    project.manage("migrate", "--verbosity", "0")
    assert "no issues" in project.manage("check")
    id = project.manage("shell", "--no-imports", "-c", NOTIFY).split()[-1]
    assert paths == []
    worker = project.start("manage.py", "run_jobs")
    wait_until(lambda: paths, what="the text message", timeout=60)
    worker.stop()
    assert paths == ["/?text=The+disk+is+full"]
    assert project.manage("shell", "--no-imports", "-c", READ.replace("{id}", id)).split() == ["True", "True"]
    assert project.manage("shell", "--no-imports", "-c", PURGE).split() == ["1", "0"]
