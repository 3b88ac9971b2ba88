"""Answer 503 to a request that fails because the database or a resource of the process is not available.

The response is made when the server starts, so that nothing is imported, read from a file or translated for it. Where
a process has no descriptor left, each of that fails too.
"""

from __future__ import annotations

import codecs
import logging
import sys
from typing import Any

from django.core.signals import got_request_exception
from django.db import Error

from notifications.db.outages import is_own_outage
from notifications.problems import database_unavailable, log_database_error
from notifications.realtime.servers import Receive, Scope, Send

#: The key of a scope whose request has failed for lack of a resource.
_FAILED = "notifications.unavailable"
#: Codecs, each a module, that Django's log and Python's tracebacks use.
CODECS = ("ascii", "latin-1", "utf-8", "utf-8-sig", "unicode_escape", "idna")
#: The messages of the response.
_messages: list[dict[str, Any]] = []


def prepare() -> None:
    """Walk the way of a refusal once: what it imports and reads is then in memory."""
    got_request_exception.connect(_note_failure, dispatch_uid="notifications.overload")
    logging.getLogger("django.request").addFilter(_leave_to_own_log)
    response = database_unavailable().response()
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    headers.append((b"content-length", str(len(response.content)).encode()))
    _messages[:] = [
        {"type": "http.response.start", "status": response.status_code, "headers": headers},
        {"type": "http.response.body", "body": response.content},
    ]
    for name in CODECS:
        codecs.lookup(name)
    try:
        raise MemoryError
    except MemoryError:
        # Formatting a traceback imports modules and reads the source.
        logging.Formatter().formatException(sys.exc_info())


async def call_or_refuse(application: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an ASGI application. If it fails for lack of a resource, send 503 in place of 500 or of no response.

    What fails after the response has begun, such as the end of its threads, is only logged.
    """
    has_begun = is_replaced = False

    async def send_or_replace(message: dict[str, Any]) -> None:
        nonlocal has_begun, is_replaced
        if message["type"] == "http.response.start":
            has_begun = True
            is_replaced = message["status"] == 500 and _FAILED in scope
            if is_replaced:
                await _refuse(send)
        if not is_replaced:
            await send(message)

    try:
        await application(scope, receive, send_or_replace)
    except Exception as exc:
        # The project's own page for errors may fail too, by the same lack.
        if not is_own_outage(exc) and _FAILED not in scope:
            raise
        log_database_error(exc)
        if not has_begun:
            await _refuse(send)


async def _refuse(send: Send) -> None:
    for message in _messages:
        await send(message)


def _note_failure(request: Any = None, **kwargs: Any) -> None:
    """Take the signal that Django sends while it handles an exception that becomes a response with 500."""
    exc = sys.exc_info()[1]
    if exc is not None and is_own_outage(exc) and hasattr(request, "scope"):
        request.scope[_FAILED] = True


def _leave_to_own_log(record: logging.LogRecord) -> bool:
    """Filter out what Django logs of each request that fails while the database is away: a traceback, or an e-mail."""
    exc = record.exc_info[1] if record.exc_info else None
    scope = getattr(getattr(record, "request", None), "scope", {})
    if _FAILED not in scope or not isinstance(exc, Error):
        return True
    log_database_error(exc)
    return False
