"""The ASGI application in place of Django's: routes, who starts the worker, what a server tells."""

import asyncio
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from channels.routing import URLRouter

from notifications import asgi
from notifications.realtime import hub
from notifications.realtime.servers import daphne, fallbacks, uvicorn
from notifications.routing import websocket_urlpatterns
from tests.support.site import ROOT


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
        ("/ws/notifications", None, "", False),
        ("/ws/notifications/more/", None, "", False),
        ("/", None, "", False),
        ("/notifications/", None, "", False),
    ],
)
async def test_websocket_path(connect, user, settings, application, path, script_name, root_path, accepted):
    """Also below a prefix; all others are refused before the handshake."""
    settings.FORCE_SCRIPT_NAME = script_name
    socket = await connect(user, app=application, path=path, root_path=root_path)
    assert socket.accepted == accepted


async def test_route_works_in_channels_router(connect, user):
    """For projects with an ASGI file of their own."""
    socket = await connect(user, app=URLRouter(websocket_urlpatterns))
    await socket.start()


async def test_http_is_served_by_django(application, transactional_db):
    """Requests go to Django as they are."""
    events, sent = asyncio.Queue(), []

    async def send(message):
        sent.append(message)

    events.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    scope = {"type": "http", "method": "GET", "path": "/no/such/page/", "headers": [(b"host", b"testserver")]}
    await application({**scope, "query_string": b"", "root_path": ""}, events.get, send)
    assert sent[0]["status"] == 404
    await hub.close_current_hub()


async def test_lifespan_shutdown_closes_clients(connect, user, application):
    """Lifespan, which uvicorn has and Daphne has not."""
    socket = await connect(user, app=application)
    await socket.start()
    events, answers = asyncio.Queue(), asyncio.Queue()
    living = asyncio.create_task(application({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.startup"})
    assert await answers.get() == {"type": "lifespan.startup.complete"}
    events.put_nowait({"type": "lifespan.shutdown"})
    assert (await socket.receive_bye())["code"] == 4000
    assert await answers.get() == {"type": "lifespan.shutdown.complete"}
    await living


async def test_application_can_start_again(application):
    """On the same loop, as tests of a project do that run the lifespan for each."""
    for _ in range(2):
        events, answers = asyncio.Queue(), asyncio.Queue()
        living = asyncio.create_task(application({"type": "lifespan"}, events.get, answers.put))
        events.put_nowait({"type": "lifespan.startup"})
        assert await asyncio.wait_for(answers.get(), 10) == {"type": "lifespan.startup.complete"}
        assert not hub.current_hub().stopping.is_set()
        events.put_nowait({"type": "lifespan.shutdown"})
        assert await asyncio.wait_for(answers.get(), 10) == {"type": "lifespan.shutdown.complete"}
        assert hub.current_hub().stopping.is_set()
        await living


async def test_fallback_on_uvicorn_is_logged_at_startup(application, monkeypatch, caplog):
    """Before the first WebSocket."""
    other = type("Other", (), {})
    fallbacks.log_fallback.cache_clear()
    server = SimpleNamespace(config=SimpleNamespace(ws_protocol_class=other, http_protocol_class=other))
    monkeypatch.setattr(uvicorn, "running_server", lambda: server)
    events, answers = asyncio.Queue(), asyncio.Queue()
    living = asyncio.create_task(application({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.startup"})
    await answers.get()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "WebSocket frames are not written directly on this uvicorn"
    ]
    living.cancel()


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
def test_only_servers_start_the_worker(monkeypatch, arguments, starts):
    """Not manage.py shell, which may import the ASGI module like anybody."""
    monkeypatch.setattr(asgi, "is_test_runner", lambda: False)
    monkeypatch.setattr(sys, "argv", arguments)
    assert asgi.is_server() == starts


def test_test_runner_starts_no_worker(monkeypatch):
    """Whatever it is called."""
    monkeypatch.setattr(sys, "argv", ["/venv/bin/daphne"])
    assert not asgi.is_server()


def test_wsgi_starts_no_worker(monkeypatch):
    """A process of uWSGI or mod_wsgi that imports the ASGI module."""
    monkeypatch.setattr(asgi, "is_test_runner", lambda: False)
    monkeypatch.setattr(sys, "argv", ["uwsgi"])
    monkeypatch.setitem(sys.modules, "uwsgi", sys)
    assert not asgi.is_server()


THREADS = """
import threading
import asyncsite.asgi
print([thread.name for thread in threading.enumerate() if "worker" in thread.name])
"""


@pytest.mark.parametrize(("how", "starts"), [("manage.py shell", False), ("script", True)])
def test_the_worker_starts_when_the_application_is_made(site, how, starts):
    """Without a visitor, in a server; never in a shell."""
    site.environment["EMBEDDED_WORKER"] = "1"
    if how == "script":
        command = [sys.executable, "-c", THREADS]
        done = subprocess.run(command, env=site.env(), cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        output = done.stdout
    else:
        output = site.python(THREADS)
    assert ("notifications-worker" in output) == starts


class Server:
    """What Daphne's send belongs to."""

    root_path = "/behind"

    async def handle_reply(self, message):
        pass


Server.__module__ = "daphne.server"


def test_daphne_root_path_header_is_ignored():
    """Other servers' is left as it is."""
    server = daphne.server_of(partial(Server().handle_reply))
    scope = {"type": "http", "root_path": "//evil.example"}
    assert daphne.with_server_root_path(scope, server)["root_path"] == "/behind"
    assert daphne.server_of(lambda message: None) is None
