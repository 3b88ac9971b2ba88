"""Connections that give up when no answer comes. Those of Celery and its clients wait for ever."""

from __future__ import annotations

from typing import Any

#: Seconds after which a broker that does not answer counts as away.
ANSWER_SECONDS = 10.0


def broker_url(app: Any) -> str:
    """Return the URL to which an app publishes, "" if there is none."""
    return str(app.conf.broker_write_url or app.conf.broker_url or "")


def new_connection(app: Any) -> Any:
    """Return a connection to the broker that waits ``ANSWER_SECONDS`` for an answer. It does not connect yet."""
    url, seconds = broker_url(app), ANSWER_SECONDS
    if url.startswith(("redis", "rediss", "sentinel", "unix")):
        options = {"socket_timeout": seconds, "socket_connect_timeout": seconds / 2}
    elif url.startswith(("amqp", "pyamqp")) or not url:
        # The broker confirms each message. Without that, what was sent on a connection that is half dead would be lost.
        options = {"confirm_publish": True, "read_timeout": seconds, "write_timeout": seconds}
    else:
        options = {}
    return app.connection_for_write(transport_options=options, connect_timeout=seconds / 2)
