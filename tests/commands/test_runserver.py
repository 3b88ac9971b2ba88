"""A project that has forgotten "daphne" in INSTALLED_APPS: runserver serves WSGI, and says so when it starts."""

import pytest

from tests.docs.project import Project
from tests.support.network import free_port, is_listening

LINE = 'Add "daphne" as the first line of INSTALLED_APPS'


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    asgi = project.folder / "mysite/asgi.py"
    asgi.write_text(asgi.read_text().replace("django.core.asgi", "notifications.asgi"))
    yield project
    project.close()


def start(project):
    port = free_port()
    server = project.start("manage.py", "runserver", "--noreload", str(port))
    server.wait_until(lambda: is_listening(port), what="the server to listen")
    return server


def test_daphne_that_is_forgotten(project):
    """The warning names the line, as doctor does; commands that serve nothing print no warning."""
    assert LINE not in start(project).output
    project.add_settings('INSTALLED_APPS.remove("daphne")\n')
    server = start(project)
    assert "notifications.W042" in server.output and LINE in server.output
    assert "W042" not in "".join(project.try_command("check")[1:])
    _, findings, _ = project.try_command("notifications", "doctor", "--timeout", "0.1")
    (line,) = (number for number, text in enumerate(findings.splitlines()) if text[9:13] == "W042")
    assert findings.splitlines()[line].startswith("warning") and LINE in findings.splitlines()[line + 1]


def test_a_site_that_is_not_in_development(project):
    """It is not served by runserver, so doctor does not speak of it."""
    project.add_settings('INSTALLED_APPS.remove("daphne")\nDEBUG = False\nALLOWED_HOSTS = ["*"]\n')
    _, findings, _ = project.try_command("notifications", "doctor", "--timeout", "0.1")
    assert "WebSockets reach the app" in findings and LINE not in findings
