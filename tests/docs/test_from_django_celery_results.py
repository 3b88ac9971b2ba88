"""The page for users of django-celery-results, followed block by block in a fresh project."""

import json

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import Project
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

PAGE = DOCS / "how-to/from-django-celery-results.md"
URLS = """
from django.urls import include, path
from mysite import views

urlpatterns = [
    path("notifications/", include("notifications.urls")),
    path("status/<task_id>/", views.status),
    path("exports/", views.exports),
]
"""
ENQUEUE = """
from django.contrib.auth import get_user_model
from mysite.tasks import export

print(export.using(owner=get_user_model().objects.get(username="ada")).enqueue(2026).id)
"""
READ = """
import json
from django.contrib.auth import get_user_model
from django.test import Client

for name in ("ada", "bob"):
    user, _ = get_user_model().objects.get_or_create(username=name)
    client = Client()
    client.force_login(user)
    paths = ["/status/{id}/", "/exports/", "/notifications/api/notifications/"]
    responses = [client.get(path) for path in paths]
    print(json.dumps([response.json() if response.status_code == 200 else None for response in responses]))
"""


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    project.close()


def read(project, id):
    """Return what ada's and bob's requests are answered: status, exports, and notifications."""
    output = project.manage("shell", "--no-imports", "-c", READ.replace("{id}", id))
    return [json.loads(line) for line in output.splitlines() if line.startswith("[")]


def test_page_step_by_step(project):
    written = [project.write(block) for block in blocks(PAGE, "python")]
    assert len(written) == 2
    project.add_settings("ALLOWED_HOSTS = ['*']\n")
    (project.folder / "mysite/urls.py").write_text(URLS)
    assert "no issues" in project.manage("check")
    read(project, "no-id")  # creates the users
    id = project.manage("shell", "--no-imports", "-c", ENQUEUE).split()[-1]
    ada, bob = read(project, id)
    assert ada[:2] == [{"state": "queued", "result": None}, {"states": {id: "queued"}}]
    assert bob[:2] == [None, {"states": {}}]

    worker = project.start("manage.py", "run_jobs")
    wait_until(lambda: read(project, id)[0][0]["state"] == "succeeded", what="the job to succeed")
    ada, bob = read(project, id)
    assert ada[:2] == [
        {"state": "succeeded", "result": {"rows": 12, "year": 2026}},
        {"states": {id: "succeeded"}},
    ]
    assert [item["title"] for item in ada[2]["items"]] == ["Export 2026"]
    assert bob[2]["items"] == []
    assert "Traceback" not in worker.output
