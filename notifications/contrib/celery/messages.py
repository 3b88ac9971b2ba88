"""Jobs for the messages of observed tasks."""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache, partial
from typing import Any

from django.utils import translation

from notifications import times, validators
from notifications.contrib.celery import declarations
from notifications.contrib.celery import headers as job_headers
from notifications.contrib.celery.headers import JobHeader
from notifications.contrib.celery.observations import Observation, TaskCall
from notifications.db import new_row, user_keys_of
from notifications.jobs.claiming.executors import EAGER_QUEUE
from notifications.jobs.transitions.enqueueing import owner_key
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Before the id of a task in ``concurrency_key``, if it is not the id of its job.
ID_PREFIX = "celery:"
_NAMESPACE = uuid.UUID("5b1c2a0e-5c0c-4f5e-9f43-0a3d0c1b7d55")


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is known about the message of an observed task, in its publisher or in a worker.

    ``read_header``
        Returns the header. Called when it is first needed: to check the signature takes as long as the smallest record.
    ``group``
        The id of Celery's group.
    """

    id: str
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    read_header: Callable[[], JobHeader | None] = lambda: None
    queue: str = ""
    group: str = ""
    eta: datetime | None = None
    expires: datetime | None = None

    @cached_property
    def header(self) -> JobHeader | None:
        """The header, None without one or if it is not valid."""
        return self.read_header()


def job_id(id: str) -> uuid.UUID:
    """Return the id of the job for the task with this id: the same, if it is a UUID as Celery writes one."""
    try:
        if str(parsed := uuid.UUID(id)) == id:
            return parsed
    except ValueError:
        pass
    return uuid.uuid5(_NAMESPACE, id)


def task_id(job: Job) -> str:
    """Return Celery's id of the task that a job stands for."""
    key = job.concurrency_key
    return key.removeprefix(ID_PREFIX) if key.startswith(ID_PREFIX) else str(job.id)


def make_header(app: Any, message: Message, observation: Observation) -> JobHeader:
    """Return the header of a message that is published now, with the owner in this context."""
    call = TaskCall(message.name, signature_of(app, message.name), message.args, message.kwargs)
    try:
        owner = owner_key(call.owner(observation))
    except (TypeError, ValueError) as exc:
        logger.warning("Could not find the owner of Celery task %s: %s", message.name, exc)
        owner = None
    return JobHeader(
        id=message.id,
        user=None if owner is None else str(owner),
        title=call.title(observation),
        url=call.url(observation),
        language=translation.get_language() or "",
    )


def build_job(app: Any, message: Message, observation: Observation, now: datetime | None = None) -> Job:
    """Return the unsaved row of the queued job for a message, without the arguments: they may be secrets.

    ``now`` is when it was published or received, by default now.
    """
    header = message.header
    # Without a valid header: the publisher does not use this app, or it may be forged.
    if header is None:
        call = TaskCall(message.name, signature_of(app, message.name), message.args, message.kwargs)
        declared, title, url = call.owner(observation), call.title(observation), call.url(observation)
    else:
        declared, title, url = None, header.title, header.url
    now = now or times.now()
    expires_at = message.expires
    if observation.start_within:
        latest = max(now, message.eta or now) + observation.start_within
        expires_at = min(expires_at or latest, latest)
    id = job_id(message.id)
    return new_row(
        Job,
        id=id,
        user_id=_user_key(message.id, header.user if header else declared),
        inbox_group=message.group[: validators.MAX_NAME_LENGTH],
        task_path=message.name[:500],
        args="[]",
        kwargs="{}",
        backend="",
        queue_name=(message.queue or "celery")[: validators.MAX_NAME_LENGTH],
        executor="observed",
        run_after=message.eta if message.eta and message.eta > now else None,
        max_attempts=max_attempts_of(app, message.name),
        expires_at=expires_at,
        title=title,
        url=url,
        language=header.language if header else "",
        concurrency_key=""
        if str(id) == message.id
        else f"{ID_PREFIX}{message.id}"[: validators.MAX_KEY_LENGTH],
        created_at=now,
        queued_at=now,
    )


def published_message(name: str, headers: Mapping[str, Any], body: Any, queue: str = "") -> Message | None:
    """Return the message that Celery publishes, None for one of protocol 1, which has no headers."""
    if "id" not in headers or not isinstance(body, tuple | list) or len(body) < 2:
        return None
    id = str(headers["id"])
    return Message(
        id=id,
        name=name,
        args=body[0] or (),
        kwargs=body[1] or {},
        read_header=partial(job_headers.decode, headers.get(job_headers.NAME), id),
        queue=queue,
        group=_group_id(headers.get("group")),
        eta=parse_time(headers.get("eta")),
        expires=parse_time(headers.get("expires")),
    )


def published_ids(id: str, body: Any) -> set[str]:
    """Return the ids under which a message will have executions: its own, and those of what follows it.

    ``Task.replace()`` gives the id of the task to the last one of a chain, or to the body of a chord.
    """
    ids = {id}
    embed = body[2] if len(body) > 2 and isinstance(body[2], Mapping) else {}
    chain = embed.get("chain") or []
    for signature in (*(chain if isinstance(chain, list | tuple) else ()), embed.get("chord")):
        options = signature.get("options") if isinstance(signature, Mapping) else None
        if isinstance(options, Mapping) and options.get("task_id"):
            ids.add(str(options["task_id"]))
    return ids


def received_header(request: Any) -> Any:
    """Return the value of the job's header in a task's request in a worker, None if it has none."""
    value = (request.headers or {}).get(job_headers.NAME)
    # Celery's Request keeps what it does not know beside its own attributes.
    return request.get(job_headers.NAME) if value is None else value


def calls_project(observation: Observation) -> bool:
    """Return whether functions of the project are called to make the job of a message with an invalid header."""
    return callable(observation.owner) or callable(observation.url)


def received_message(name: str, request: Any) -> Message:
    """Return the message of a task's request in a worker."""
    info, id = request.delivery_info or {}, str(request.id)
    queue = EAGER_QUEUE if request.is_eager else str(info.get("routing_key") or info.get("exchange") or "")
    return Message(
        id=id,
        name=name,
        args=request.args or (),
        kwargs=request.kwargs or {},
        read_header=partial(job_headers.decode, received_header(request), id),
        queue=queue,
        group=_group_id(getattr(request, "group", None)),
        eta=parse_time(request.eta),
        expires=parse_time(request.expires),
    )


def parse_time(value: Any) -> datetime | None:
    """Return a time of Celery's, a datetime or its ISO text, in UTC; None for none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return times.as_utc(value) if value.tzinfo else value.replace(tzinfo=times.now().tzinfo)


def signature_of(app: Any, name: str) -> inspect.Signature | None:
    """Return the signature of a task's function, None if this process does not know the task."""
    task = app._tasks.get(name) if app is not None else None
    return None if task is None else _signature(task.run)


@lru_cache(maxsize=1000)
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def max_attempts_of(app: Any, name: str) -> int:
    """Return how often a task is started at most, 1 if that is not known or not limited."""
    task = app._tasks.get(name) if app is not None else None
    retries = getattr(task, "max_retries", None)
    return 1 if task is None or retries is None else max(int(retries), 0) + 1


def observation_of(name: str) -> Observation | None:
    """Return how a task is observed, None if it is not. Raises nothing."""
    try:
        return declarations.find(name)
    except Exception:
        logger.exception("Could not find out whether Celery task %s is observed", name)
        return None


def _group_id(value: Any) -> str:
    """Return the id of Celery's group as the name of a group in the inbox, "" if it cannot be one."""
    try:
        return validators.text("group", str(value or ""), validators.MAX_NAME_LENGTH)
    except ValueError:
        return ""


def _user_key(id: str, user: Any) -> Any:
    """Return the key of one user, None if it is none, which is logged."""
    if user is None:
        return None
    try:
        [key] = user_keys_of(user)
    except (TypeError, ValueError) as exc:
        logger.warning("Ignored the owner of Celery task %s: %s", id, exc)
        return None
    return key
