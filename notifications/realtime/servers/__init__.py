"""What the app knows of Daphne and uvicorn beyond ASGI.

Everything here is optional: without it the server's own way is used.

An adapter for another server has up to four parts:

- a writer, ``writer_of(send)``: a function that writes an encoded frame to the socket at once, or None;
- limits: bound headers and bodies (``request_limits``) and WebSocket frames (``websocket_frames``);
- the shutdown: close the hub before the server closes connections (``call_before_shutdown``);
- a check at the start that the names it uses exist and behave as expected, or one line in the log (``has_methods``).

``asgi.py`` installs limits and shutdown, ``transports/consumers.py`` asks for a writer.

daphne, daphne_protocols                  Daphne: shutdown and writer, limits
uvicorn, uvicorn_http, uvicorn_websocket  the same for uvicorn
request_limits, websocket_frames          limits of both
overload                                  503 where a resource is missing
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

logger = logging.getLogger(__name__)

#: Types of the arguments of an ASGI application.
Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Set in a process that serves the application of ``notifications.asgi``.
is_serving = threading.Event()


@functools.cache
def log_fallback(message: str, reason: str) -> None:
    """Log once what the server does without an adapter. ``message`` has a ``%s`` for the reason."""
    logger.warning(message, reason)


def has_methods(adapted: Any, names: Sequence[str], message: str) -> bool:
    """Return whether a class has these methods. If not, call ``log_fallback()``."""
    missing = [name for name in names if not callable(getattr(adapted, name, None))]
    if missing:
        log_fallback(message, f"{adapted.__name__} has no {', '.join(missing)}.")
    return not missing
