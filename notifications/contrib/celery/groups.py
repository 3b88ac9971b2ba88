"""Batches for groups and chords of Celery's: the jobs of one owner in a group are a batch with the group's id.

A message's signed header names its batch. The process that inserts a job first, its publisher or the worker that begins
it, inserts the batch with it. The batch is open, which means that it does not end, until its publisher has published
all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils.translation import ngettext

from notifications import times, validators
from notifications.context import current_execution
from notifications.contrib.celery.execution import ObservedExecution
from notifications.contrib.celery.headers import JobHeader
from notifications.contrib.celery.messages import (
    Message,
    build_batch,
    is_batched,
    observation_of,
)
from notifications.contrib.celery.publishing import (
    EXTEND_INTERVAL_SECONDS,
    OPEN_SECONDS,
    GroupPublishing,
    PublishedBatch,
    current_publishing,
)
from notifications.engines.observed import batches
from notifications.jobs.declaring.observations import Observation, label_of
from notifications.models import Job


def add_batch(
    header: JobHeader, observation: Observation, headers: Mapping[str, Any], body: Any
) -> JobHeader:
    """Return the header of a message that is published now, with its batch if it has one."""
    if not is_batched(observation):
        return header
    if publishing := current_publishing():
        return replace(header, batch=publishing.batch_of(header.user).id)
    # Celery publishes the rest of a chain, and the body of a chord, in the execution of a task before it.
    execution = current_execution()
    outer = execution.message.header if isinstance(execution, ObservedExecution) else None
    if outer and outer.batch and outer.user == header.user and _is_in_group(headers, body):
        return replace(header, batch=outer.batch)
    return header


def add_eager_batch(header: JobHeader, observation: Observation, request: Any) -> JobHeader:
    """Return the header of a task that its publisher calls itself, with its batch if it has one."""
    publishing = current_publishing(request.parent_id)
    if publishing is None or not is_batched(observation):
        return header
    publishing.is_eager = True
    batch = publishing.batch_of(header.user)
    batch.add(request.task, title=header.title, url=header.url)
    return replace(header, batch=batch.id)


def rows_of(job: Job, message: Message, observation: Observation, body: Any = ()) -> list[Job]:
    """Return the rows to insert for a message that was published: its job, after a new batch."""
    publishing = current_publishing()
    if job.batch is None or message.header is None or publishing is None:
        return [job]
    batch = publishing.batch_of(message.header.user)
    is_new = batch.count == 0
    batch.add(message.name, title=job.title, url=job.url)
    batch.followers |= set(_followers(body))
    return [build_batch(message, observation), job] if is_new else [job]


def extend(message: Message, record: Callable[[Sequence[Callable[[], None]]], None]) -> None:
    """Keep the batch of a message open if its group takes long to publish. ``record`` makes the calls it is given."""
    publishing = current_publishing()
    if publishing is None or message.header is None or not message.header.batch:
        return
    batch = publishing.batch_of(message.header.user)
    now = time.monotonic()
    if now - batch.extended_at > EXTEND_INTERVAL_SECONDS:
        batch.extended_at = now
        id = UUID(batch.id)
        record([lambda: batches.extend(id, times.now() + timedelta(seconds=OPEN_SECONDS))])


def make_closings(publishing: GroupPublishing) -> list[Callable[[], None]]:
    """Return calls that let the batches of a group end, whose publishing is over, when their jobs are done."""
    return [_closing(batch) for batch in publishing.batches]


def _closing(batch: PublishedBatch) -> Callable[[], None]:
    id, count, total = UUID(batch.id), batch.count, batch.total
    if total == 1:
        return lambda: batches.close(id, count=1, total=1, title=batch.title, url=batch.url)
    title = ngettext("%(count)d job", "%(count)d jobs", total) % {"count": total}
    if len(batch.task_names) == 1:
        [name] = batch.task_names
        title = validators.shortened(f"{label_of(name)}: {title}", validators.MAX_TITLE_LENGTH)
    return lambda: batches.close(id, count=count, total=total, title=title)


def _is_in_group(headers: Mapping[str, Any], body: Any) -> bool:
    """Return whether a message, or the end of the chain that it begins, belongs to a group."""
    if headers.get("group"):
        return True
    chain = _embedded(body).get("chain") or []  # its last task is the first one here
    options = chain[0].get("options") if chain and isinstance(chain[0], Mapping) else None
    return isinstance(options, Mapping) and bool(options.get("group_id"))


def _followers(body: Any) -> Iterator[str]:
    """Yield the ids of the observed tasks that Celery publishes after a task, if they belong to its batch."""
    embedded = _embedded(body)
    for signature in (*(embedded.get("chain") or []), embedded.get("chord")):
        if not isinstance(signature, Mapping):
            continue
        observation = observation_of(str(signature.get("task")))
        id = (signature.get("options") or {}).get("task_id")
        if id and observation is not None and is_batched(observation):
            yield str(id)


def _embedded(body: Any) -> Mapping[str, Any]:
    """Return what a published message says about the tasks that follow its own."""
    embedded = body[2] if isinstance(body, tuple | list) and len(body) > 2 else None
    return embedded if isinstance(embedded, Mapping) else {}
