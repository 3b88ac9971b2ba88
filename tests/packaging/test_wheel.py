"""The wheel holds everything, and six lines give a fresh project a live bell and running jobs."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.site import ROOT
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(300),
    pytest.mark.nightly_names("*[Django 5.2]", "*[Django 6.0]"),
]

LINES = {"5.2": ((3, 11), "daphne,django52"), "6.0": ((3, 12), "daphne"), "6.1": ((3, 12), "daphne")}

TASKS = """
from django.tasks import task
from notifications.api import policy

@task
@policy(title="Add {a} and {b}")
def add(a, b):
    return a + b
"""

#: In one process: each command takes a second of a core until it begins.
PREPARE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
call_command("makemigrations", check_changes=True, dry_run=True)
call_command("createsuperuser", interactive=False, username="boss", email="boss@example.com")
"""

ASK = """
from django.contrib.auth import get_user_model
from mysite.tasks import add
print(add.using(owner=get_user_model().objects.get(username="boss")).enqueue(2, 3).id)
"""


TEST = """
from mysite.tasks import add

def test_add(admin_user, run_jobs, capture_notifications):
    with capture_notifications(admin_user) as told:
        result = add.using(owner=admin_user).enqueue(2, 3)
        assert run_jobs() == 1
    result.refresh()
    assert result.return_value == 5
    assert [note.title for note in told] == ["Add 2 and 3"]
"""


@pytest.fixture(params=LINES, ids="Django {}".format)
def project(request, wheel, tmp_path):
    """A fresh project with the wheel in an environment of its own, before the six lines."""
    first, extras = LINES[request.param]
    python = tmp_path / "venv/bin/python"
    newest = interpreter(first, newer=request.param != "5.2")
    run(newest, "-m", "venv", "--without-pip", tmp_path / "venv")
    constraints = tmp_path / "constraints.txt"
    pinned = (ROOT / "requirements.txt").read_text()
    constraints.write_text(re.sub(r"^Django==.*", f"Django=={request.param}.*", pinned, flags=re.M))
    pip_install(python, f"{wheel}[{extras}]", "-c", constraints)
    run(python, "-m", "django", "startproject", "mysite", cwd=tmp_path)
    return Project(tmp_path / "mysite", python, request.param)


def pip_install(python, *arguments):
    """Install by the pip of these tests, and compile only what is imported."""
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", *arguments)


def test_wheel_holds_every_file_of_the_app(wheel):
    """Templates, static files, migrations, catalogues and py.typed are in it, and nothing else.

    The modules of the browser client are not: pages load the bundles that are made of them.
    """
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(
            archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")
        )
    kept = run(
        "git", "ls-files", "--cached", "--others", "--exclude-standard", "notifications", cwd=ROOT
    ).split()
    modules = {name for name in kept if re.fullmatch(r"notifications/static/notifications/\w+\.js", name)}
    assert held == set(kept) - modules
    assert {Path(name).name for name in held if "/bundle/" in name} == {
        *(
            "contrast.js",
            "entry.js",
            "inbox.js",
            "job.js",
            "output.js",
            "page.js",
            "pane.js",
            "panel.js",
            "preferences.js",
            "push.js",
            "shortcuts.js",
            "push_key.js",
            "push_worker.js",
            "question.js",
            "rows.js",
        ),
        *("initial.css", "notifications.css", "pages.css"),
    }
    for folder in ("templates/", "static/", "migrations/0001_streams.py", "locale/", "py.typed"):
        assert any(name.startswith(f"notifications/{folder}") for name in held), folder
    for extra in ("daphne", "uvicorn", "postgres", "redis", "django52"):
        assert f"Provides-Extra: {extra}\n" in metadata
    # An index page has no files beside it, to which the links of the README could lead.
    assert "Six lines add the app to a project" in metadata
    assert re.findall(r"\]\((?!https?:).*?\)", metadata) == []


def test_six_lines_give_bell_and_jobs(project):
    """Installed, six lines, migrate, check, run: the admin has the bell, a job runs, its owner is told."""
    project.apply_the_six_lines()
    (project.folder / "mysite/tasks.py").write_text(TASKS.replace("django.tasks", project.tasks_module))
    assert "No changes detected" in project.manage("shell", "-c", PREPARE)
    with project.server() as browser:
        page = browser.sign_in_to_admin()
        assert "<notifications-bell" in page
        for address in re.findall(r'<script[^>]* src="([^"]+)"', page):
            assert browser.get(address)

        job = project.manage("shell", "-c", ASK).split()[-1]
        item = wait_until(lambda: browser.done(job), what="the job to be done")
        assert (item["state"], item["title"]) == ("succeeded", "Add 2 and 3")
        assert json.loads(browser.get(f"/notifications/api/jobs/{job}/result/")) == 5
        told = json.loads(browser.get("/notifications/api/notifications/"))
        assert [notification["job"] for notification in told["items"]] == [job]
        assert told["unread"] == 1

    if project.line == "6.1":
        project.install("pytest", "pytest-django")
        (project.folder / "test_mysite.py").write_text(TEST)
        tested = run(
            project.python, "-m", "pytest", "-q", "--ds=mysite.settings", cwd=project.folder, env=project.env
        )
        assert "1 passed" in tested


class Project:
    def __init__(self, folder, python, line):
        self.folder, self.python, self.line = folder, python, line
        self.tasks_module = "django_tasks" if line == "5.2" else "django.tasks"
        self.env = {key: value for key, value in os.environ.items() if key not in HOUSE_VARIABLES}
        self.env["DJANGO_SUPERUSER_PASSWORD"] = "secret"

    def install(self, *packages):
        files = [
            part for name in ("requirements.txt", "requirements-dev.txt") for part in ("-c", ROOT / name)
        ]
        pip_install(self.python, *packages, *files)

    def manage(self, *arguments):
        return run(self.python, "manage.py", *arguments, cwd=self.folder, env=self.env)

    def apply_the_six_lines(self):
        replace(
            self.folder / "mysite/settings.py",
            ("INSTALLED_APPS = [\n", 'INSTALLED_APPS = [\n    "daphne", "notifications",\n'),
            (
                'WSGI_APPLICATION = "mysite.wsgi.application"\n',
                (
                    'WSGI_APPLICATION = "mysite.wsgi.application"\n'
                    'ASGI_APPLICATION = "mysite.asgi.application"\n'
                    'TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}\n'
                ),
            ),
        )
        replace(
            self.folder / "mysite/urls.py",
            ("from django.urls import path\n", "from django.urls import include, path\n"),
            (
                "urlpatterns = [\n",
                'urlpatterns = [\n    path("notifications/", include("notifications.urls")),\n',
            ),
        )
        replace(
            self.folder / "mysite/asgi.py",
            (
                "from django.core.asgi import get_asgi_application\n",
                "from notifications.asgi import get_asgi_application\n",
            ),
        )

    def server(self):
        return Browser(self)


# What the tests say to the site must not reach a project that is none of the site's.
HOUSE_VARIABLES = {
    "DJANGO_SETTINGS_MODULE",
    "DATABASE_URL",
    "DEBUG",
    "SECRET_KEY",
    "EMBEDDED_WORKER",
    "PYTHONPATH",
}


class Browser:
    """A running server of the project, and a session with it."""

    def __init__(self, project):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.opener = build_opener(HTTPCookieProcessor(CookieJar()))
        command = [project.python, "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        self.process = Process(
            command, log=project.folder / "server.log", cwd=project.folder, env=project.env
        )

    def __enter__(self):
        self.process.wait_until(lambda: is_listening(self.port), what="the server to listen")
        assert "Daphne" in self.process.output
        return self

    def __exit__(self, *_):
        self.process.stop()

    def sign_in_to_admin(self):
        form = self.get("/admin/login/?next=/admin/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)[1]
        data = {"csrfmiddlewaretoken": token, "username": "boss", "password": "secret", "next": "/admin/"}
        return self.get("/admin/login/", urlencode(data).encode())

    def get(self, path, data=None):
        with self.opener.open(self.url + path, data, timeout=20) as response:
            return response.read().decode()

    def done(self, job):
        item = json.loads(self.get(f"/notifications/api/jobs/{job}/"))
        return item if item["done"] else None


def interpreter(first, *, newer):
    """A Python that really runs: of exactly `first`, or of it or a newer one."""
    names = [f"python3.{minor}" for minor in ((14, 13, 12) if newer else (11,))]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [sys.executable, *filter(None, map(shutil.which, names))]
    places += [str(path) for name in names for path in versions.glob(f"*/bin/{name}")]
    for place in places:
        probe = "import sys, venv; print(*sys.version_info[:2])"
        answer = subprocess.run([place, "-c", probe], capture_output=True, text=True)
        version = tuple(map(int, answer.stdout.split())) if answer.returncode == 0 else None
        if version == first or (newer and version and version >= first):
            return place
    pytest.skip(f"No {' or '.join(names)} runs here.")


def replace(path, *pairs):
    text = path.read_text().replace("'", '"')
    for old, new in pairs:
        assert text.count(old) == 1, f"{path.name} has no line of its own {old!r}"
        text = text.replace(old, new)
    path.write_text(text)


def run(*command, **how):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=240, **how)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
