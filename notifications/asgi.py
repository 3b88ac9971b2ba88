"""An ASGI application in place of Django's, with the WebSocket and the embedded worker.

In a project's ``asgi.py`` import ``get_asgi_application`` from here instead of from ``django.core.asgi``.
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import Any

from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application as get_django_application

from notifications import request_limits, traces
from notifications.http import waiting
from notifications.realtime.servers import (
    daphne as daphne_server,
)
from notifications.realtime.servers import (
    uvicorn as uvicorn_server,
)
from notifications.realtime.servers import (
    uvicorn_writer,
)

#: Commands of manage.py that serve pages; others import the ASGI module without meaning to run jobs.
SERVING_COMMANDS = {"runserver"}


def get_asgi_application() -> Application:
    """Return an ASGI application with Django's pages and the WebSocket at ``/ws/notifications/``.

    Starts the embedded worker, where ``NOTIFICATIONS["EMBEDDED_WORKER"]`` says so and this process is a server.
    """
    application = Application(get_django_application())
    if is_server():
        begin_serving()
    return application


class Application:
    """Hands requests to Django, WebSockets to the app, and refuses WebSockets of other paths."""

    def __init__(self, django_application: Any) -> None:
        from notifications.realtime import hub
        from notifications.routing import websocket_urlpatterns

        self.django = django_application
        self.hub = hub
        self.sockets = websocket_urlpatterns
        self.served = False

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            if uvicorn := uvicorn_server.running():
                uvicorn_server.bound_protocols(uvicorn)
            return await self.live(receive, send)
        if daphne := daphne_server.server_of(send):
            scope = daphne_server.with_server_root_path(scope, daphne)
        if not self.served:
            self.served = True
            if daphne:
                daphne_server.call_before_shutdown(daphne, self.hub.close_current_hub)
            elif uvicorn := uvicorn_server.running():
                uvicorn_server.call_before_shutdown(uvicorn, self.hub.close_current_hub)
                uvicorn_server.bound_protocols(uvicorn)
                uvicorn_server.probe_silent_clients(uvicorn)
        traces.note(scope.get("headers", ()))
        self.hub.current_hub()  # it numbers what others left behind, from the first request on
        if scope["type"] != "websocket":
            waiting.note_server_task()
            return await request_limits.call_bounded(self.django, scope, receive, send)
        path = path_below_root(scope).removeprefix("/")
        for route in self.sockets:
            if route.pattern.match(path):
                return await route.callback(scope, receive, send)
        await receive()
        await send({"type": "websocket.close", "code": 4404})

    async def live(self, receive, send) -> None:
        """Say goodbye to all clients when the server stops, if it tells; nothing depends on it."""
        if uvicorn := uvicorn_server.running():
            uvicorn_writer.check(uvicorn)
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.hub.forget_closed_here()
            if message["type"] == "lifespan.shutdown":
                await self.hub.close_current_hub()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def path_below_root(scope: dict) -> str:
    """Return the path without the prefix that the server or ``FORCE_SCRIPT_NAME`` put before the project's own."""
    path = scope["path"]
    for prefix in (scope.get("root_path") or "", django_settings.FORCE_SCRIPT_NAME or ""):
        prefix = prefix.rstrip("/")
        if prefix and path.startswith(f"{prefix}/"):
            return path[len(prefix) :]
    return path


def is_server() -> bool:
    """Whether this process serves pages: it is no test runner, no WSGI server, and no other command of manage.py."""
    if is_test_runner() or not {"uwsgi", "mod_wsgi"}.isdisjoint(sys.modules):
        return False
    if is_management_script(sys.argv[0]):
        return len(sys.argv) > 1 and sys.argv[1] in SERVING_COMMANDS
    return True


def is_test_runner() -> bool:
    """Whether Django's or pytest's tests run in this process."""
    from django.test.utils import _TestState

    return hasattr(_TestState, "saved_data") or "pytest" in sys.modules


def is_management_script(script: str) -> bool:
    """Whether a process started as this script runs commands of Django's."""
    path = PurePath(script)
    names = {"manage.py", "django-admin", "django-admin.exe"}
    return path.name in names or path.parts[-2:] == ("django", "__main__.py")


def begin_serving() -> None:
    """Say how processes hear of one another, and start the embedded worker, if the settings want one.

    For a command of the project's own that serves; elsewhere ``get_asgi_application`` does it.
    """
    from notifications.conf import settings
    from notifications.realtime import doorbell

    doorbell.doorbell.log_transport()
    if settings.EMBEDDED_WORKER:
        from notifications.jobs.worker import embedded

        embedded.start(doorbell.listen)
