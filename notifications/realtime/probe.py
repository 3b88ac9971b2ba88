"""Open a WebSocket in this process, as a browser does, to learn whether the ASGI application leads to the app.

A project with an application of its own may route the path elsewhere, and one that was just made has Django's. Its
pages then poll, and no setting says so.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import tokenize
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.utils.module_loading import import_string

from notifications.paths import WEBSOCKET_PATH
from notifications.realtime.close_reasons import FORBIDDEN_CODE
from notifications.realtime.servers import is_serving

logger = logging.getLogger("notifications")

#: Seconds in which the application has to answer.
TIMEOUT_SECONDS = 5.0
#: Seconds in which its call ends when it is cancelled.
CANCEL_SECONDS = 1.0
#: The app refuses it before it reads the session, or starts anything.
FOREIGN_SUBPROTOCOL = "notifications.probe"

ROUTING_REMEDY = (
    "Give the path to the app in that file: see 'Your own Channels routing' in the documentation."
)
WSGI_REMEDY = "A site that is served by WSGI always polls: silence notifications.W038."


def describe(path: str, problem: str) -> str:
    """Return the sentences for people about what ``find_problem`` has found at a dotted path."""
    return (
        f"WebSockets at /{WEBSOCKET_PATH} do not reach the app in {path}, so pages poll every 15 s. {problem}"
    )


def describe_remedy(path: str) -> str:
    """Return what to do about what ``find_problem`` has found at a dotted path."""
    if not is_of_django(path):
        return f"{ROUTING_REMEDY} {WSGI_REMEDY}"
    file = f"{path.rpartition('.')[0].replace('.', '/')}.py"
    return (
        f"In {file}, write 'from notifications.asgi import get_asgi_application' in place of 'from django.core.asgi "
        f"import get_asgi_application', by which a server in development also runs jobs. {WSGI_REMEDY}"
    )


def is_of_django(path: str) -> bool:
    """Return whether the module of an application imports that of Django, and neither this app nor Channels.

    Its text is read, because importing it may start what it serves.
    """
    try:
        spec = find_spec(path.rpartition(".")[0])
        with tokenize.open(spec.origin) as file:  # type: ignore[union-attr, arg-type]
            imported = set(_imported_modules(ast.parse(file.read())))
    except Exception as exc:  # there is none, or its package raises an error, or it is no file
        logger.debug("Could not read the module of %s: %r", path, exc)
        return False
    packages = {module.partition(".")[0] for module in imported}
    return "django.core.asgi" in imported and packages.isdisjoint({"notifications", "channels"})


def _imported_modules(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def application_path() -> str:
    """Return the path of the ASGI application: ``ASGI_APPLICATION``, or the one beside ``WSGI_APPLICATION``, or ""."""
    if path := getattr(settings, "ASGI_APPLICATION", None):
        return str(path)
    package, found, name = (getattr(settings, "WSGI_APPLICATION", None) or "").rpartition(".wsgi.")
    return f"{package}.asgi.{name}" if found and _exists(f"{package}.asgi") else ""


def find_problem(path: str) -> str:
    """Return why WebSockets do not reach the app through the application at this dotted path, "" if they do."""
    try:
        application = import_string(path)
        if (
            is_serving.is_set()
        ):  # its import has called get_asgi_application() of this app, whose loop is another one
            return ""
        answer = async_to_sync(_open_socket)(application)
    except Exception as exc:  # of the project's code
        return " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
    if answer is None:
        return f"It does not answer within {TIMEOUT_SECONDS:g} s."
    if answer == {"type": "websocket.close", "code": FORBIDDEN_CODE}:
        return ""
    if answer["type"] == "websocket.accept":
        return "Another application accepts them."
    return f"They are closed with the code {answer.get('code', 1000)}."


async def _open_socket(application: Any) -> dict[str, Any] | None:
    """Return the first message with which the application answers a handshake, None if there is none in time."""
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    incoming = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        if not incoming:
            await asyncio.Event().wait()  # the probe cancels the call
        return incoming.pop()

    host = _own_host()
    root_path = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": f"{root_path}/{WEBSOCKET_PATH}",
        "raw_path": f"{root_path}/{WEBSOCKET_PATH}".encode(),
        "query_string": b"",
        "root_path": root_path,
        "headers": [(b"host", host.encode()), (b"origin", f"http://{host}".encode())],
        "client": ("127.0.0.1", 0),
        "server": (host, 80),
        "subprotocols": [FOREIGN_SUBPROTOCOL],
    }
    call = asyncio.ensure_future(application(scope, receive, answers.put))
    answer = asyncio.ensure_future(answers.get())
    try:
        await asyncio.wait({call, answer}, timeout=TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and call.done():
            call.result()  # raises what the application has raised
            await asyncio.sleep(0)
        return answer.result() if answer.done() else None
    finally:
        call.cancel()
        answer.cancel()
        # An application may refuse to be cancelled.
        await asyncio.wait({call, answer}, timeout=CANCEL_SECONDS)


def _own_host() -> str:
    for host in settings.ALLOWED_HOSTS:
        if name := host.removeprefix(".").replace("*", ""):
            return str(name)
    return "localhost"


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
