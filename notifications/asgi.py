"""An ASGI application that replaces Django's: it adds the WebSocket and starts the embedded worker.

In the project's ``asgi.py``, import ``get_asgi_application`` from here instead of from ``django.core.asgi``.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application as get_django_application

from notifications.compat import is_management_script, is_test_runner
from notifications.db.schema import require_present_schema
from notifications.http import waiting_requests
from notifications.realtime.servers import Receive, Scope, Send, is_serving, overload, request_limits
from notifications.realtime.servers import daphne as daphne_server
from notifications.realtime.servers import uvicorn as uvicorn_server
from notifications.tracing import trace_context
from notifications.worker.watchdog import ServerWatchdog, restart_when_stuck

#: Commands of manage.py that are servers. Others may import the ASGI module, and must not start a worker.
SERVING_COMMANDS = {"runserver"}


def get_asgi_application() -> Application:
    """Return an ASGI application for Django's views and the WebSocket at ``/ws/notifications/``.

    If this process is a server, also start the embedded worker, unless ``NOTIFICATIONS["EMBEDDED_WORKER"]`` is off.
    """
    application = Application(get_django_application())
    if is_server():
        begin_serving()
    return application


class Application:
    """Route requests to Django and WebSockets to the app, and refuse WebSockets at other paths."""

    def __init__(self, django_application: Any) -> None:
        # Not at the first request, for which no descriptor may be left.
        from notifications import duties  # noqa: F401
        from notifications.realtime import hub
        from notifications.routing import websocket_urlpatterns

        self.django_application = django_application
        self.hub = hub
        self.websocket_routes = websocket_urlpatterns
        self.has_prepared_server = False
        self.watchdog: ServerWatchdog | None = None
        overload.prepare()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.watchdog is None and is_serving.is_set():
            self.watchdog = ServerWatchdog(asyncio.get_running_loop())
        if scope["type"] == "lifespan":
            if uvicorn := uvicorn_server.running_server():
                uvicorn_server.use_bounded_protocols(uvicorn)
            return await self.handle_lifespan(receive, send)
        if daphne := daphne_server.server_of(send):
            scope = daphne_server.with_server_root_path(scope, daphne)
        if not self.has_prepared_server:
            self.has_prepared_server = True
            if daphne:
                daphne_server.can_write_directly()  # Daphne has no lifespan events, so a fallback is logged now
                daphne_server.call_before_shutdown(daphne, self.close)
            elif uvicorn := uvicorn_server.running_server():
                uvicorn_server.call_before_shutdown(uvicorn, self.close)
                uvicorn_server.use_bounded_protocols(uvicorn)
                uvicorn_server.probe_silent_clients(uvicorn)
        trace_context.set_from_headers(scope.get("headers", ()))
        if scope["type"] != "websocket":
            self.hub.current_hub()  # starts numbering the rows that other processes left unnumbered
            waiting_requests.remember_server_task()
            if daphne:
                send = daphne_server.with_backpressure(send)
            bounded = partial(request_limits.call_bounded, self.django_application)
            return await overload.call_or_refuse(bounded, scope, receive, send)
        path = path_below_root(scope).removeprefix("/")
        for route in self.websocket_routes:
            if route.pattern.match(path):
                return await route.callback(scope, receive, send)
        await receive()
        await send({"type": "websocket.close", "code": 4404})

    async def close(self) -> None:
        """Close the connections of all clients, because the server stops. Its loop may stand still from now on."""
        if self.watchdog is not None:
            self.watchdog.stop()
        await self.hub.close_current_hub()

    async def handle_lifespan(self, receive: Receive, send: Send) -> None:
        """Close the hub, and with it all clients' connections, when the server announces its shutdown.

        Nothing depends on it: some servers have no lifespan events.
        """
        if uvicorn := uvicorn_server.running_server():
            uvicorn_server.check_direct_writes(uvicorn)
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.hub.forget_closed_hub()
            if message["type"] == "lifespan.shutdown":
                await self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def path_below_root(scope: dict[str, Any]) -> str:
    """Return the path of a request without the script name of the server or of ``FORCE_SCRIPT_NAME``."""
    path = scope["path"]
    for prefix in (scope.get("root_path") or "", django_settings.FORCE_SCRIPT_NAME or ""):
        prefix = prefix.rstrip("/")
        if prefix and path.startswith(f"{prefix}/"):
            return path[len(prefix) :]
    return path


def is_server() -> bool:
    """Return whether this process is an ASGI server: not a test runner, WSGI server or other command of manage.py."""
    if is_test_runner() or not {"uwsgi", "mod_wsgi"}.isdisjoint(sys.modules):
        return False
    if is_management_script(sys.argv[0]):
        return len(sys.argv) > 1 and sys.argv[1] in SERVING_COMMANDS
    return True


def begin_serving(*, restarts: bool = False) -> None:
    """Log which doorbell connects the processes, and start the embedded worker or the upkeep for engines, as set.

    Call it in a custom management command that is a server. Elsewhere ``get_asgi_application`` calls it. Raises
    ``ImproperlyConfigured`` if the database does not have the tables of this version.
    With ``restarts``, a process whose event loop has not run for 30 s starts itself again, for a command without a
    supervisor. Otherwise it ends.
    """
    from notifications.conf import settings
    from notifications.extension import hooks
    from notifications.realtime import doorbell

    require_present_schema()
    is_serving.set()
    if restarts:
        restart_when_stuck()
    doorbell.doorbell.log_transport()
    hooks.dispatch.start_in_server()
    if settings.EMBEDDED_WORKER:
        from notifications.worker import embedded

        embedded.start(doorbell.listen)
