"""Projects whose DATABASES are unusual: no default, and a database that is not supported."""

import pytest

from tests.docs.project import Project

pytestmark = pytest.mark.nightly

ROUTER = """
class Router:
    def db_for_read(self, model, **hints):
        return "primary"

    db_for_write = db_for_read
"""

VIEWS = """
from django.urls import include, path
from notifications.api import accepted
from mysite.tasks import add

def sums(request):
    return accepted(request, lambda: add.enqueue(2, 3))

urlpatterns = [path("notifications/", include("notifications.urls")), path("sums/", sums)]
"""

USE = """
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

ada = User.objects.create_user("ada")
client = Client(raise_request_exception=False)
client.force_login(ada)
response = client.post("/sums/", headers={"Idempotency-Key": "k"})
print(response.status_code, client.post("/sums/", headers={"Idempotency-Key": "k"}).status_code)
call_command("run_jobs", "--until-idle", verbosity=0)
print(client.get(response["Location"]).json()["state"])
print([client.get(f"/notifications/{path}").status_code for path in ("", "api/sync/", "api/jobs/")])
"""

#: A backend like MySQL's, but for the vendor SQLite's: no statement is to reach it.
BACKEND = """
from django.db.backends.sqlite3 import base

class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "mysql"

    def get_new_connection(self, params):
        raise AssertionError("connected")
"""


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    project.close()


def test_no_default_database(project):
    """A router sends all models to one with another name, as Django's documentation has it."""
    (project.folder / "mysite/router.py").write_text(ROUTER)
    (project.folder / "mysite/urls.py").write_text(VIEWS)
    project.add_settings(
        'DATABASES = {"default": {}, "primary": DATABASES["default"]}\n'
        'DATABASE_ROUTERS = ["mysite.router.Router"]\nALLOWED_HOSTS = ["*"]\n'
    )
    assert "no issues" in project.manage("check", "--database", "primary")
    project.manage("migrate", "--database", "primary", "--verbosity", "0")
    lines = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    assert {"202 202", "succeeded", "[200, 200, 200]"} <= set(lines)


@pytest.mark.nightly_on_old_django
def test_unsupported_database(project):
    """Commands end with one error that says what is supported, before the first statement."""
    (project.folder / "mysite/db").mkdir()
    (project.folder / "mysite/db/base.py").write_text(BACKEND)
    project.add_settings('DATABASES["default"]["ENGINE"] = "mysite.db"\n')
    for command in (["check"], ["check", "--database", "default"], ["migrate"], ["run_jobs", "--until-idle"]):
        code, _, errors = project.try_command(*command)
        assert code == 1, command
        assert "Traceback" not in errors, (command, errors)
        assert errors.count("(notifications.E") == 1
        assert "(notifications.E011)" in errors
        assert "Use PostgreSQL or SQLite" in errors
