"""Ask Celery's result backend, workers and broker about tasks, and have the workers revoke some.

The broker is asked on connections with a timeout. How long a result backend may take is up to its client.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery import current_app, states
from celery.app.control import TERM_SIGNAME
from kombu.exceptions import ChannelError

from notifications.contrib.celery.connections import broadcast, new_connection
from notifications.contrib.celery.messages import task_id
from notifications.db.threads import DaemonExecutor, NoThread
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds after the last answer for which others are waited for, and the same when some are missing: a busy machine
#: makes workers slow.
INSPECT_TIMEOUT_SECONDS, SLOW_INSPECT_TIMEOUT_SECONDS = 1.0, 5.0
#: Messages in Redis that are read to find some, and how many at once. With more, it is not known who has them.
MAX_READ_MESSAGES, READ_CHUNK = 1_000, 100
#: The interval at which a worker and its broker look for each other, if the project sets none.
DEFAULT_HEARTBEAT_SECONDS = 120.0
#: RabbitMQ's ``consumer_timeout``: how long it leaves a message unacknowledged.
DELIVERY_TIMEOUT_SECONDS = 1800.0
#: On a thread of its own: a broker that is away must not delay the request that cancels.
_executor = DaemonExecutor(1, "notifications-revoke")


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


def find_in_workers(app: Any, ids: Sequence[str], workers: int) -> tuple[set[str], int]:
    """Return which of these tasks workers have, waiting or running, and how many workers have answered.

    If these are fewer than ``workers``, all are asked once more, with more time. The wait never ends with that number
    of answers: workers answer that have no row here, as those of another project, and may be the first.
    """
    replies = _query_tasks(app, ids, INSPECT_TIMEOUT_SECONDS)
    if len(replies) < workers:
        replies = _query_tasks(app, ids, SLOW_INSPECT_TIMEOUT_SECONDS)
    return {id for reply in replies for id in reply}, len(replies)


def _query_tasks(app: Any, ids: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    answers = broadcast(app, "query_task", {"ids": list(ids)}, reply=True, timeout=seconds) or []
    replies = [reply for answer in answers for reply in answer.values()]
    return [reply for reply in replies if isinstance(reply, dict) and "error" not in reply]


def find_messages(app: Any, queues: Mapping[str, str]) -> dict[str, bool | None]:
    """Return of each task whether the broker has its message, waiting or not acknowledged. None: that is not known.

    ``queues`` has the routing keys of the tasks by their ids. Redis lets its messages be read. Of other brokers only
    the number of those that wait is known, and not who has received others. Raises what the broker raises while it is
    away.
    """
    with new_connection(app, is_for_reading=True) as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        found: dict[str, bool | None] = {}
        for key in set(queues.values()):
            ids = [id for id, queue in queues.items() if queue == key]
            configured = _queues_of(app, key)
            counts = {name: _count_in_queue(connection, name) for name in configured or [key]}
            # A queue that does not exist is empty: the broker has lost it. A key with dots may be that of a topic
            # exchange, whose queues only the workers that consume them know.
            is_unknown = not configured and counts == {key: None} and "." in key
            channel = connection.channel()
            if not is_unknown and hasattr(channel, "unacked_key"):
                found |= _find_in_redis(channel, counts, ids)
            else:
                has_messages = any(counts.values())
                found |= dict.fromkeys(ids, None if is_unknown or has_messages else False)
            channel.close()
        return found


def _find_in_redis(
    channel: Any, counts: Mapping[str, int | None], ids: Sequence[str]
) -> dict[str, bool | None]:
    """Return of each task whether its message is in one of these queues, or not acknowledged, in any of them."""
    from redis import Redis

    # Without Kombu's client, which prefixes the keys of some commands only.
    client: Any = Redis(connection_pool=channel.client.connection_pool)
    prefix = getattr(channel, "global_keyprefix", "") or ""
    unacked_key = f"{prefix}{channel.unacked_key}"
    if client.hlen(unacked_key) + sum(count or 0 for count in counts.values()) > MAX_READ_MESSAGES:
        return dict.fromkeys(ids)
    # In this order: a message that goes back to its queue meanwhile is found there.
    texts = [value for _, value in client.hscan_iter(unacked_key, count=READ_CHUNK)]
    found = _find_ids(texts, ids)
    for name in counts:
        for priority in channel.priority_steps:
            queue = f"{prefix}{channel._q_for_pri(name, priority)}"
            for start in range(0, client.llen(queue), READ_CHUNK):
                found |= _find_ids(client.lrange(queue, start, start + READ_CHUNK - 1), ids)
    return {id: id in found for id in ids}


def _find_ids(texts: Iterable[bytes | str], ids: Sequence[str]) -> set[str]:
    """Return which ids occur in messages. One that names another task, as its parent, has that id too."""
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    return {id for id in ids if any(id.encode() in text for text in encoded)}


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
    """Return the seconds after which the broker has delivered again what a lost worker had received.

    0 for Redis, whose messages are read. Another broker does so when a worker's connection has been silent for two
    heartbeats, without them when a message was not acknowledged in time, or after the visibility timeout that the
    project sets.
    """
    if hasattr(getattr(app.connection_for_read().transport, "Channel", None), "unacked_key"):
        return 0.0
    options, heartbeat = app.conf.broker_transport_options or {}, app.conf.broker_heartbeat
    if heartbeat is None:
        heartbeat = DEFAULT_HEARTBEAT_SECONDS
    return float(options.get("visibility_timeout", 2.0 * heartbeat or DELIVERY_TIMEOUT_SECONDS))


def is_delivered_again(app: Any, name: str) -> bool:
    """Return whether the broker delivers the message of a task again whose worker was lost while it ran."""
    task = app._tasks.get(name)
    return bool(app.conf.task_acks_late if task is None else task.acks_late)


def revoke_tasks(jobs: Sequence[Job]) -> None:
    """Revoke the tasks of cancelled jobs, and terminate those that run. Does not wait, and raises nothing."""
    ids = [task_id(job) for job in jobs]
    try:
        _executor.submit(send_revoke, current_app._get_current_object(), ids)
    except (NoThread, RuntimeError) as exc:
        logger.warning("Could not revoke Celery tasks: %s", exc)


def send_revoke(app: Any, ids: Sequence[str], **options: Any) -> None:
    """Have the workers of an app revoke tasks, and terminate those that run. Errors are logged."""
    try:
        arguments = {"task_id": list(ids), "terminate": True, "signal": TERM_SIGNAME}
        broadcast(app, "revoke", arguments, **options)
    except Exception as exc:
        logger.warning("Could not revoke %d Celery tasks: %r", len(ids), exc)
