"""What Celery's result backend, workers and broker know about tasks.

The broker is asked on connections with a timeout. How long a result backend may take is up to its client.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from celery import states
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from kombu.exceptions import ChannelError

from notifications.jobs.engines.celery.connections import broadcast, new_connection

logger = logging.getLogger("notifications.jobs")

#: Seconds that workers may take to answer which tasks they have.
INSPECT_TIMEOUT_SECONDS = 1.0
#: Seconds after which Redis delivers again what a lost worker had not acknowledged, if the settings do not say.
DEFAULT_VISIBILITY_TIMEOUT_SECONDS = 3600
#: Kombu calls the function that looks for such messages at this interval, and it looks in one of so many calls.
DEFAULT_RESTORE_INTERVAL_SECONDS, DEFAULT_RESTORE_THROTTLE = 10, 10


def read_meta(app: Any, id: str) -> dict[str, Any] | None:
    """Return what the result backend has stored of a task: ``status`` and ``result``. None if it has nothing.

    Raises what the backend raises while it is away.
    """
    backend = app.backend
    if backend.as_uri() in ("rpc://", "disabled://"):  # a result is only in a queue of the caller
        return None
    try:
        meta: dict[str, Any] = backend.get_task_meta(id, cache=False)
    except NotImplementedError:
        return None
    return None if meta.get("status") == states.PENDING else meta


def keeps_result(task: Any) -> bool:
    """Return whether the result backend will know how the task that runs in this context has ended."""
    if isinstance(task.backend, DisabledBackend | RPCBackend):
        return False
    return not (task.request.ignore_result or task.ignore_result)


def find_in_workers(app: Any, ids: Sequence[str]) -> tuple[set[str], int]:
    """Return which of these tasks workers have, waiting or running, and how many workers have answered."""
    options = {"reply": True, "timeout": INSPECT_TIMEOUT_SECONDS}
    answers = broadcast(app, "query_task", {"ids": list(ids)}, **options) or []
    replies = [reply for answer in answers for reply in answer.values()]
    tasks = [reply for reply in replies if isinstance(reply, dict) and "error" not in reply]
    return {id for reply in tasks for id in reply}, len(tasks)


def count_messages(app: Any, routing_keys: Iterable[str]) -> tuple[dict[str, int | None], bool]:
    """Return how many messages wait in the queues of routing keys, and whether others may come back to them later.

    None for a key of which no queue is known. Messages come back with Redis while a worker, or one that was lost, has
    some that it has not acknowledged. Raises what the broker raises while it is away.
    """
    with new_connection(app, is_for_reading=True) as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        counts: dict[str, int | None] = {}
        for key in routing_keys:
            configured = _queues_of(app, key)
            found = [_count_in_queue(connection, name) for name in configured or [key]]
            # A queue that does not exist is empty: the broker has lost it. A key with dots may be that of a topic
            # exchange, whose queues only the workers that consume them know.
            is_unknown = not configured and found == [None] and "." in key
            counts[key] = None if is_unknown else sum(count or 0 for count in found)
        channel = connection.channel()
        has_unacknowledged = hasattr(channel, "unacked_key") and bool(
            channel.client.hlen(channel.unacked_key)
        )
        return counts, has_unacknowledged


def _queues_of(app: Any, key: str) -> list[str]:
    """Return the names of the configured queues to which a routing key leads."""
    return [
        queue.name
        for queue in app.amqp.queues.values()
        if key == queue.name or _is_routed(key.split("."), str(queue.routing_key or "").split("."))
    ]


def _is_routed(words: list[str], pattern: list[str]) -> bool:
    """Return whether a key matches the pattern of a topic exchange: ``*`` is one word, ``#`` any number of them."""
    if not pattern:
        return not words
    first, *rest = pattern
    if first == "#":
        return any(_is_routed(words[start:], rest) for start in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and _is_routed(words[1:], rest)


def _count_in_queue(connection: Any, name: str) -> int | None:
    """Return how many messages wait in a queue, None if it does not exist."""
    channel = connection.channel()  # it is closed by the error of a queue that does not exist
    try:
        count = int(channel.queue_declare(queue=name, passive=True).message_count)
    except (ChannelError, *connection.channel_errors):
        return None
    channel.close()
    return count


def redelivery_seconds(app: Any) -> float:
    """Return the seconds after which Redis has delivered again what a lost worker had not acknowledged.

    Kombu's workers look for such messages at intervals, of 100 s if the project sets no others.
    """
    options = app.conf.broker_transport_options or {}
    timeout = options.get("visibility_timeout", DEFAULT_VISIBILITY_TIMEOUT_SECONDS)
    interval = float(options.get("unacked_restore_interval", 0))
    throttle = float(options.get("unacked_restore_throttle", DEFAULT_RESTORE_THROTTLE))
    if interval <= 0:
        interval = DEFAULT_RESTORE_INTERVAL_SECONDS
    return float(timeout) + interval * max(throttle, 1.0)


def is_delivered_again(app: Any, name: str) -> bool:
    """Return whether the broker delivers the message of a task again whose worker was lost while it ran."""
    task = app._tasks.get(name)
    return bool(app.conf.task_acks_late if task is None else task.acks_late)
