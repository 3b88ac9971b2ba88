"""Connections and calls that give up when no answer comes. Those of Celery and its clients wait for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import wait
from copy import copy
from functools import lru_cache
from typing import Any, TypeVar

from notifications.db.threads import DaemonExecutor, NoThread

T = TypeVar("T")

logger = logging.getLogger("notifications.jobs")

#: Seconds after which a broker that does not answer counts as away.
ANSWER_SECONDS = 10.0
#: Characters that are stored of the name of a broker.
MAX_NAME_LENGTH = 64


def broker_url(app: Any) -> str:
    """Return the URL to which an app publishes, "" if there is none."""
    return str(app.conf.broker_write_url or app.conf.broker_url or "")


@lru_cache(maxsize=16)
def broker_name(app: Any) -> str:
    """Return a name of the broker of an app without credentials, "" if its URL is wrong. Does not connect.

    Cached: to read the URL from the settings of Celery took 8 µs of each task.
    """
    try:
        info = app.connection_for_write().info()
        name = f"{info['transport']}://{info['hostname']}:{info['port']}/{info['virtual_host']}"
    except Exception as exc:
        logger.warning("Could not name the broker of Celery: %r", exc)
        name = ""
    prefix = (app.conf.broker_transport_options or {}).get("global_keyprefix", "")
    return f"{name}{prefix}"[:MAX_NAME_LENGTH]


def new_connection(app: Any, *, is_for_reading: bool = False, seconds: float = ANSWER_SECONDS) -> Any:
    """Return a connection to the broker that waits at most so many seconds for an answer. It does not connect yet."""
    url = broker_url(app)
    connect = app.connection_for_write
    if is_for_reading:
        url, connect = str(app.conf.broker_read_url or url), app.connection_for_read
    if url.startswith(("redis", "rediss", "sentinel", "unix")):
        options = {"socket_timeout": seconds, "socket_connect_timeout": seconds / 2}
    elif url.startswith(("amqp", "pyamqp")) or not url:
        # The broker confirms each message. Without that, what was sent on a connection that is half dead would be lost.
        options = {"confirm_publish": True, "read_timeout": seconds, "write_timeout": seconds}
    else:
        options = {}
    return connect(transport_options=options, connect_timeout=seconds / 2)


def broadcast(app: Any, command: str, arguments: dict[str, Any], **options: Any) -> Any:
    """Send a command to the workers, as ``app.control.broadcast()`` does, without a connection of Celery's pool."""
    control = copy(app.control)
    control.mailbox = copy(control.mailbox)
    control.mailbox.producer_pool = None  # it would publish there whatever the connection is
    with new_connection(app) as connection:
        connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
        return control.broadcast(command, arguments=arguments, connection=connection, **options)


class NoAnswer(Exception):
    """A call did not return in time. It may still go on, on a thread that nothing waits for."""


class BoundedCaller:
    """Makes one call after another on a thread of its own, and waits at most ``seconds`` for each.

    A thread that is stuck in a call is replaced, until several are stuck.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._executor = DaemonExecutor(1, name)
        self._seconds = seconds

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return or raise what a call returns or raises. Raises ``NoAnswer``."""
        try:
            future = self._executor.submit(function, *args, **kwargs)
        except NoThread as exc:
            raise NoAnswer(str(exc)) from exc
        if not wait([future], timeout=self._seconds).done:
            if not future.cancel():
                self._executor.detach(future)
            raise NoAnswer(f"{function.__name__}: no answer within {self._seconds:g} s")
        return future.result()
