"""A new project in an environment of its own, with the newest versions of packages, and the app added to it."""

import os
import re
import sys

import pytest

from tests.browser.parts import find_bell
from tests.docs.pages import DOCS, blocks, code
from tests.packaging.test_wheel import HOUSE_VARIABLES, pip_install, run
from tests.support.network import free_port, is_listening
from tests.support.processes import Process

CREATE_USER = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("ada", "ada@example.com", "correct horse battery")
"""
ENQUEUE = """
import time
from django.contrib.auth import get_user_model
from {tasks} import {task}
ada = get_user_model().objects.get(username="ada")
print(time.time(), {task}.using(owner=ada).enqueue({arguments}).id)
"""
FAILING_TASK = """

@task
def fail():
    raise ValueError("of the task")
"""
POLICY = """
from django.utils.csp import CSP
MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *MIDDLEWARE]
TEMPLATES[0]["OPTIONS"]["context_processors"].append("django.template.context_processors.csp")
SECURE_CSP = {
    "default-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "script-src": [CSP.SELF, CSP.NONCE],
    "style-src": [CSP.SELF, CSP.NONCE],
}
"""
HOME = """
{% load notifications %}<!doctype html>
<title>Home</title>
<link rel="icon" href="data:,">
<body>
  <header>Shop {% notifications %}</header>
  <h1>Home</h1>
</body>
"""
HOME_URL = """
from django.views.generic import TemplateView
urlpatterns += [path("", TemplateView.as_view(template_name="home.html"))]
"""


class HostProject:
    """What `startproject mysite` makes, with the app as docs/how-to/install.md says, and one page with the bell."""

    packages = ()
    extra = "daphne"
    settings, urls, asgi, tasks = "mysite/settings.py", "mysite/urls.py", "mysite/asgi.py", "mysite.tasks"
    command = ("manage.py", "runserver", "--noreload", "127.0.0.1:{port}")
    #: Where one signs in, the name of the button, and then the page whose header has the bell.
    login, button, page, header = "/admin/login/", "Log in", "/", "header"
    user, policy = CREATE_USER, POLICY

    def __init__(self, folder, wheel, postgres):
        self.folder, self.wheel, self.postgres = folder / "project", wheel, postgres
        self.python = folder / "venv/bin/python"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {key: value for key, value in os.environ.items() if key not in HOUSE_VARIABLES}
        self.process = None

    def make(self):
        self.folder.mkdir()
        self.install()
        self.generate()
        self.add_app()
        self.append(self.settings, self.policy)
        self.manage("migrate", "-v0")
        self.manage("check", "--fail-level", "WARNING")
        self.manage("shell", "-c", self.user)

    def install(self):
        self.install_into(self.python, f"{self.wheel}[{self.extra},postgres]", *self.packages)

    @staticmethod
    def install_into(python, *packages):
        """Create an environment. Without an index the test is skipped, and names the package that it lacks."""
        run(sys.executable, "-m", "venv", "--without-pip", python.parent.parent)
        try:
            pip_install(python, *packages)
        except AssertionError as error:
            if missing := re.search(r"No matching distribution found for (\S+)", str(error)):
                pytest.skip(f"{missing[1]} cannot be installed from here.")
            raise

    def generate(self):
        run(self.python, "-m", "django", "startproject", "mysite", ".", cwd=self.folder)

    def add_app(self):
        installed, *_ = blocks(DOCS / "how-to/install.md", "python")
        self.append(
            self.settings, "APPS = INSTALLED_APPS\n" + installed.replace("    ...\n", "    *APPS, 'mysite'\n")
        )
        self.append(self.settings, code("how-to/install.md", "SQLite"))
        self.replace(self.asgi, "django.core.asgi", "notifications.asgi")
        self.append(self.urls, "from django.urls import include\n")
        self.append(self.urls, 'urlpatterns += [path("notifications/", include("notifications.urls"))]\n')
        self.append(self.urls, HOME_URL)
        self.write("mysite/templates/home.html", HOME)
        self.add_tasks("mysite/tasks.py")

    def add_tasks(self, name):
        self.write(name, code("how-to/install.md", "Enqueue a first job") + FAILING_TASK)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def append(self, name, text):
        with (self.folder / name).open("a") as file:
            file.write(f"\n{text}")

    def replace(self, name, old, new):
        path = self.folder / name
        assert old in path.read_text(), f"{name} has no {old!r}"
        path.write_text(path.read_text().replace(old, new))

    def manage(self, *arguments):
        return run(self.python, "manage.py", *arguments, cwd=self.folder, env=self.env)

    def shell(self, code):
        return self.manage("shell", "--no-imports", "-c", code)

    def enqueue(self, task, *arguments):
        """Enqueue a job in a process of its own, and return the time just before and its id."""
        fields = {"tasks": self.tasks, "task": task, "arguments": ", ".join(map(repr, arguments))}
        time, id = self.shell(ENQUEUE.format(**fields)).split()[-2:]
        return float(time), id

    def start(self):
        command = [self.python, *(part.format(port=self.port) for part in self.command)]
        self.process = Process(command, log=self.folder / "server.log", cwd=self.folder, env=self.env)
        self.process.wait_until(lambda: is_listening(self.port), what="the server to listen")

    def sign_in(self, page):
        page.route(
            "**/favicon.ico", lambda route: route.fulfill(status=204)
        )  # which a new project does not have
        page.goto(f"{self.url}{self.login}")
        page.get_by_label("Username").fill("ada")
        page.locator("input[type=password]").fill("correct horse battery")
        page.get_by_role("button", name=self.button).click()
        page.wait_for_url(lambda url: self.login not in url)
        page.goto(f"{self.url}{self.page}")
        find_bell(page).wait_for()

    def check(self, page):
        """Check what only this project has, after a notification has arrived on its page."""

    def close(self):
        if self.process:
            self.process.stop()
