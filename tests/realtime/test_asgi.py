"""The ASGI application that replaces Django's: its routes, lifespan, and in which processes it starts the worker."""

import asyncio
import subprocess
import sys

import pytest
from channels.routing import URLRouter

from notifications import asgi
from notifications.realtime import hub
from notifications.realtime.hub import current_hub
from notifications.routing import websocket_urlpatterns
from tests.support.site import ROOT

pytestmark = pytest.mark.nightly_on_postgres


@pytest.fixture
def application():
    return asgi.get_asgi_application()


@pytest.mark.parametrize(
    ("path", "script_name", "root_path", "accepted"),
    [
        ("/ws/notifications/", None, "", True),
        ("/app/ws/notifications/", "/app", "", True),
        ("/app/ws/notifications/", None, "/app", True),
        ("/ws/notifications/", None, "/app", True),
        ("/ws/notifications/", None, "/w", True),
        ("/app/ws/notifications/", None, "/app/", True),
        ("/ws/notifications", None, "", False),
        ("/ws/notifications/more/", None, "", False),
        ("/", None, "", False),
        ("/notifications/", None, "", False),
    ],
)
async def test_websocket_path(connect, user, settings, application, path, script_name, root_path, accepted):
    """The WebSocket path is accepted, with or without a prefix; every other path is refused before the handshake."""
    settings.FORCE_SCRIPT_NAME = script_name
    socket = await connect(user, app=application, path=path, root_path=root_path)
    assert socket.accepted == accepted


async def test_route_works_in_channels_router(connect, user):
    """websocket_urlpatterns work in a URLRouter, for projects that compose their own ASGI application."""
    socket = await connect(user, app=URLRouter(websocket_urlpatterns))
    await socket.start()


async def test_http_is_served_by_django(application, transactional_db):
    """HTTP requests are passed to Django unchanged."""
    events, sent = asyncio.Queue(), []

    async def send(message):
        sent.append(message)

    events.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    scope = {"type": "http", "method": "GET", "path": "/no/such/page/", "headers": [(b"host", b"testserver")]}
    await application({**scope, "query_string": b"", "root_path": ""}, events.get, send)
    assert sent[0]["status"] == 404
    await hub.close_current_hub()


async def test_lifespan_shutdown_closes_clients(connect, user, application):
    """The lifespan shutdown event closes sockets with 4000. uvicorn sends this event, Daphne does not."""
    socket = await connect(user, app=application)
    await socket.start()
    events, answers = asyncio.Queue(), asyncio.Queue()
    lifespan = asyncio.create_task(application({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.startup"})
    assert await answers.get() == {"type": "lifespan.startup.complete"}
    events.put_nowait({"type": "lifespan.shutdown"})
    assert (await socket.receive_bye())["code"] == 4000
    assert await answers.get() == {"type": "lifespan.shutdown.complete"}
    await lifespan


@pytest.mark.django_db(transaction=True)
async def test_application_can_start_again(application):
    """The lifespan can run twice on one event loop, as in a project whose tests run it once per test."""
    for _ in range(2):
        events, answers = asyncio.Queue(), asyncio.Queue()
        lifespan = asyncio.create_task(application({"type": "lifespan"}, events.get, answers.put))
        events.put_nowait({"type": "lifespan.startup"})
        assert await asyncio.wait_for(answers.get(), 10) == {"type": "lifespan.startup.complete"}
        assert not current_hub().stopping.is_set()
        events.put_nowait({"type": "lifespan.shutdown"})
        assert await asyncio.wait_for(answers.get(), 10) == {"type": "lifespan.shutdown.complete"}
        assert current_hub().stopping.is_set()
        await lifespan


@pytest.fixture
def outside_tests(monkeypatch):
    """As in a process that is no test runner."""
    monkeypatch.setattr(asgi, "is_test_runner", lambda: False)


@pytest.mark.parametrize(
    ("arguments", "starts"),
    [
        (["manage.py", "runserver"], True),
        (["manage.py", "serve"], False),
        (["manage.py", "shell"], False),
        (["manage.py"], False),
        (["/venv/bin/django-admin", "migrate"], False),
        (["/lib/python3.13/site-packages/django/__main__.py", "test"], False),
        (["/venv/bin/daphne", "mysite.asgi:application"], True),
        (["/venv/bin/uvicorn", "mysite.asgi:application"], True),
    ],
)
def test_only_servers_start_the_worker(outside_tests, monkeypatch, arguments, starts):
    """Servers start the worker; management commands that import the ASGI module do not, except runserver."""
    monkeypatch.setattr(sys, "argv", arguments)
    assert asgi.is_server() == starts


def test_test_runner_starts_no_worker(monkeypatch):
    """A test runner starts no worker, even if its command line looks like a server's."""
    monkeypatch.setattr(sys, "argv", ["/venv/bin/daphne"])
    assert not asgi.is_server()


def test_wsgi_starts_no_worker(outside_tests, monkeypatch):
    """A WSGI process, such as uWSGI's, that imports the ASGI module starts no worker."""
    monkeypatch.setattr(sys, "argv", ["uwsgi"])
    monkeypatch.setitem(sys.modules, "uwsgi", sys)
    assert not asgi.is_server()


THREADS = """
import threading
import asyncsite.asgi
print([thread.name for thread in threading.enumerate() if "worker" in thread.name])
"""


@pytest.mark.parametrize(("process", "starts"), [("manage.py shell", False), ("script", True)])
def test_worker_starts_with_the_application(site, process, starts):
    """Importing the application starts the worker in a server, before any request, but not in manage.py shell."""
    site.environment["EMBEDDED_WORKER"] = "1"
    if process == "script":
        command = [sys.executable, "-c", THREADS]
        completed = subprocess.run(
            command, env=site.env(), cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        assert completed.returncode == 0, completed.stderr
        output = completed.stdout
    else:
        output = site.python(THREADS)
    assert ("notifications-worker" in output) == starts
