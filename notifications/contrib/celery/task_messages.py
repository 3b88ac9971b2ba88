"""Messages by the name of a ``JobTask``: of another service, of beat without the module, and from before the switch.

A worker of Celery makes a job of each, once for each id of a message. The message is acknowledged after the commit,
whatever options the task itself has: to the worker it is a message of another task, ``enqueue_message``, with the
options that this needs. While the database is away, a copy of the message is sent to the end of its queue, which the
broker confirms, before the message is acknowledged. A rejected message would be put back to the head of the queue,
before those of others, and RabbitMQ drops one from a quorum queue that was rejected too often. So only a message is
rejected of which it is not known from which queue it came.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from celery import Task
from celery.exceptions import Reject
from django.db import Error
from kombu.serialization import registry

from notifications.contrib.celery.connections import new_connection
from notifications.db import UNAVAILABLE, is_unavailable
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs

logger = logging.getLogger("notifications.jobs")

TASK_NAME = "notifications.enqueue_message"
#: The header with the name of the task, and what else is kept from the worker, which would wait for the time.
JOB_HEADER = "notifications_job"
KEPT_HEADERS = ("task", "eta", "expires", "group")
#: Seconds before a message is put back that cannot be a job now. In an empty queue it is delivered again at once.
PUT_BACK_SECONDS = 1.0
#: What follows a task, in the body of its message. Celery executes such a task, or what follows would be lost.
FOLLOWING = ("callbacks", "errbacks", "chain", "chord")

OPTIONS = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "acks_on_failure_or_timeout": True,
    "ignore_result": True,
    "typing": False,
    "rate_limit": None,
}


def register(app: Any) -> None:
    """Register the task that makes jobs of messages, unless the app has it."""
    if TASK_NAME not in app._tasks:
        app.task(enqueue_message, name=TASK_NAME, base=Task, bind=True, shared=False, lazy=False, **OPTIONS)


def make_strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return what a worker does with a message of a task."""
    from celery.worker.strategy import default  # only workers need it

    execute = default(task, app, consumer)
    enqueue = default(app.tasks[TASK_NAME], app, consumer)

    def receive(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        if _is_followed(message.payload):
            return execute(message, body, ack, reject, callbacks, **options)
        message = copy(message)  # the transport may put the original back
        queue = _find_queue(consumer.task_consumer.queues, message.delivery_info)
        message.headers = _address(message, queue)
        return enqueue(message, body, ack, reject, callbacks, **options)

    return receive


def enqueue_message(self: Any, *args: Any, **kwargs: Any) -> None:
    """Insert the job of a message, which this is called for in place of its task."""
    sent = getattr(self.request, JOB_HEADER)
    task = self.app.tasks[sent["task"]]
    options = {**task._get_exec_options(), "group_id": sent["group"]}
    options |= {name: sent[name] for name in ("eta", "expires") if sent[name]}
    try:
        task.enqueue_job(args, kwargs, self.request.id, options)
    except IdempotencyKeyConflict as exc:
        logger.error("Dropped a message of task %s: %s", task.name, exc)
    except (TooManyJobs, Error, RuntimeError, *UNAVAILABLE) as exc:
        if not is_temporary(exc):
            raise
        logger.warning("Put back a message of task %s, which cannot be a job now: %s", task.name, exc)
        time.sleep(PUT_BACK_SECONDS)
        if not sent["queue"]:
            raise Reject(str(exc), requeue=True) from exc
        try:
            _send_copy(self.app, self.request, sent, args, kwargs)
        except Exception as error:  # of any client of a broker
            logger.warning("Could not send a copy of a message, which the broker puts back: %s", error)
            raise Reject(str(exc), requeue=True) from exc


def _find_queue(queues: Sequence[Any], delivery_info: Mapping[str, Any]) -> str:
    """Return the name of the one of a worker's queues from which a message came, "" where several are possible."""
    exchange, key = delivery_info.get("exchange"), delivery_info.get("routing_key")

    def may_be_from(queue: Any) -> bool:
        return (
            key == queue.name if not exchange else (exchange, key) == (queue.exchange.name, queue.routing_key)
        )

    found = queues if len(queues) == 1 else [queue for queue in queues if may_be_from(queue)]
    return str(found[0].name) if len(found) == 1 else ""


def _send_copy(app: Any, request: Any, sent: Mapping[str, Any], args: Any, kwargs: Any) -> None:
    """Send a message again to the end of its queue, and wait until the broker has it there."""
    times = {"eta": sent["eta"], "expires": sent["expires"]}
    made = app.amqp.as_task_v2(request.id, sent["task"], args, kwargs, group_id=sent["group"], **times)
    with new_connection(app) as connection:
        # By the default exchange, whose routing keys are the names of queues: others may lead to several, or to none.
        app.amqp.Producer(connection, auto_declare=False).publish(
            made.body,
            headers={**made.headers, **sent["headers"]},
            exchange="",
            routing_key=sent["queue"],
            mandatory=True,  # a queue that is gone is an error
            priority=request.delivery_info.get("priority"),
            serializer=registry.type_to_name[sent["content_type"]],
            **made.properties,
        )


def job_or_message(enqueue: Callable[[], Any], send: Callable[[], Any]) -> Any:
    """Return what ``enqueue`` returns; where it is no job now, what ``send`` does, whose message is made one later."""
    try:
        return enqueue()
    except (TooManyJobs, Error, RuntimeError, *UNAVAILABLE) as exc:
        if not is_temporary(exc):
            raise
        return send()


def is_temporary(exc: Exception) -> bool:
    """Return whether what cannot be a job now, by this error, can be one later."""
    return isinstance(exc, TooManyJobs) or is_unavailable(exc)


def _address(message: Any, queue: str) -> dict[str, Any]:
    """Return the headers of a message to the task that makes a job of it. ``queue``: where it came from, "" if unknown.

    A message of protocol 1 has in its body what later ones have in their headers, of which Celery takes both.
    """
    headers, payload = message.headers or {}, message.payload
    sent = {**payload, **headers} if isinstance(payload, Mapping) else headers
    kept = {name: sent.get(name) for name in KEPT_HEADERS}
    # Brokers count in theirs how often they have delivered a message.
    others = {name: value for name, value in headers.items() if not name.startswith("x-")}
    kept |= {"content_type": message.content_type, "queue": queue, "headers": others}
    return {
        **headers,
        "task": TASK_NAME,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "retries": 0,
        JOB_HEADER: kept,
    }


def _is_followed(payload: Any) -> bool:
    """Return whether a task follows this one: the message belongs to a chain or chord, or has a link."""
    embedded = payload[2] if isinstance(payload, list | tuple) and len(payload) > 2 else payload
    return isinstance(embedded, Mapping) and any(embedded.get(name) for name in FOLLOWING)
