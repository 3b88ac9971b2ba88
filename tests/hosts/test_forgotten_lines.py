"""A project that lacks one of the six lines of the installation: on each server its developer reads which one."""

from urllib.request import urlopen

import pytest

from tests.docs.project import Project
from tests.support.network import free_port, is_listening
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django

SERVERS = {
    "runserver": ["manage.py", "runserver", "--noreload", "{port}"],
    "daphne": ["-m", "daphne", "-p", "{port}", "mysite.asgi:application"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "mysite.asgi:application"],
}
URLS = '    path("notifications/", include("notifications.urls")),'
BACKEND = 'TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}'

#: What the output of each server has for a line, in one message; "" where the server does not need the line.
MESSAGES = {
    "nothing": dict.fromkeys(SERVERS, ""),
    "daphne": {"runserver": 'Add "daphne" as the first line of INSTALLED_APPS'},
    "notifications": dict.fromkeys(SERVERS, 'Add "notifications" to INSTALLED_APPS'),
    "ASGI_APPLICATION": {"runserver": "You have not set ASGI_APPLICATION"},
    "TASKS": dict.fromkeys(SERVERS, BACKEND),
    "urls": dict.fromkeys(SERVERS, f"Add {URLS.strip(' ,')} to the URLs"),
    "asgi": dict.fromkeys(
        SERVERS, "In mysite/asgi.py, write 'from notifications.asgi import get_asgi_application' in place of"
    ),
}
#: Without these no server listens.
FATAL = {("notifications", server) for server in SERVERS} | {("ASGI_APPLICATION", "runserver")}


def replace(project, name, old, new):
    path = project.folder / name
    text = path.read_text()
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new))


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    replace(project, "mysite/asgi.py", "django.core.asgi", "notifications.asgi")
    replace(project, "mysite/urls.py", "import path", "import include, path")
    replace(project, "mysite/urls.py", "urlpatterns = [", f"urlpatterns = [\n{URLS}")
    yield project
    project.close()


def forget(project, line):
    if line in ("daphne", "notifications"):
        project.add_settings(f'INSTALLED_APPS.remove("{line}")\n')
    elif line in ("ASGI_APPLICATION", "TASKS"):
        project.add_settings(f"del {line}\n")
    elif line == "urls":
        replace(project, "mysite/urls.py", URLS, "")
    elif line == "asgi":
        replace(project, "mysite/asgi.py", "notifications.asgi", "django.core.asgi")


def is_nightly(line, server):
    """Return whether another server shows the same message, from the same check."""
    return server == "daphne" or (server == "uvicorn" and line not in ("nothing", "asgi"))


@pytest.mark.parametrize(
    ("line", "server"),
    [
        pytest.param(line, server, marks=[pytest.mark.nightly] if is_nightly(line, server) else [])
        for line in MESSAGES
        for server in SERVERS
    ],
)
def test_a_line_that_is_forgotten(project, line, server):
    """One message of the server names it, at the start or at the first page, and no other message is of this app."""
    forget(project, line)
    port = free_port()
    process = project.start(*(part.format(port=port) for part in SERVERS[server]))
    message = MESSAGES[line].get(server, "")
    if (line, server) in FATAL:
        wait_until(lambda: not process.running, what="the server to end")
        assert message in process.output.splitlines()[-1], process.output  # above it may be a traceback
        return
    process.wait_until(lambda: is_listening(port), what="the server to listen")
    for _ in range(2):
        with urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=30) as page:
            assert b"Log in" in page.read()
    if message:
        process.wait_until(lambda: message in process.output, what=f"the message of {line}")
    assert process.output.count("(notifications.") + process.output.count("System check n") == bool(message)
