"""Insert notifications with what extensions add to them, and the jobs of own tasks; send signals of these.

``notify()`` calls it, and for what follows from the ends of jobs ``transitions/recording.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from django.utils import translation

from notifications import streams
from notifications.compat import should_send, task_backends, task_enqueued
from notifications.db import bulk, project_code, signal_queue
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    chunks,
    fair_atomic,
    in_callers_transaction,
    on_commit,
    retrying,
)
from notifications.extension import RecordedTransaction, hooks
from notifications.extension.app import Rows
from notifications.jobs import results, turns
from notifications.jobs.declaring.tasks import wakes_builtin_worker
from notifications.jobs.owed_calls import blaming, prepare_hooks, run_owing
from notifications.jobs.reader_languages import has_lazy, read_site_languages
from notifications.jobs.users import recipient_keys
from notifications.models import Job, Notification
from notifications.signals import notification_recorded
from notifications.streams import building, rings
from notifications.tracing import spans

logger = logging.getLogger("notifications.jobs")

#: A receiver that notifies would call itself without end.
SILENT_HOST_CODE = "receiver of notification_recorded"
#: Streams that one transaction locks at most. The other rows are numbered within a second, as all that are pending.
MAX_STREAMS_LOCKED = 100
#: Jobs that extensions have lately added to a notification, and to the end of a job with its notification, and how much
#: of that the next transaction remembers if it adds fewer. Transactions take fewer rows by it, for SQLite's lock.
jobs_added, SHARE_REMEMBERED = {"notifications": 0.0, "ends": 0.0}, 0.9
#: The paths of the tasks whose signals are being sent in this context, the outermost first.
_signaled_tasks: ContextVar[tuple[str, ...]] = ContextVar("notifications_signaled_tasks", default=())


def notify(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Create notifications and send their signals. See ``notifications.api.notify``."""
    if spans.tracer is None:
        return create_notifications(users, title, **fields)
    with spans.notifying() as span:
        ids = create_notifications(users, title, **fields)
        spans.set_notifications(span, ids)
    return ids


def create_notifications(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Insert one notification for each user, and have them numbered. See ``notifications.api.notify``.

    Inside a caller's transaction it only inserts; otherwise it writes chunks in transactions of its own.
    Returns the ids in the order of the users.
    """
    notifications, languages = build_notifications(users, title, **fields)
    rows = sorted(notifications, key=lambda row: row.user_id)
    if in_callers_transaction():
        prepare_hooks()
        # No stream is locked in a caller's transaction, so it waits for none.
        tx = RecordedTransaction(languages=languages)
        for chunk in chunks(rows, MAX_ROWS_PER_TRANSACTION):
            building.prepare(chunk)
            wake_workers(retrying(partial(insert_notifications, chunk, tx)))
        streams.number(row.user_id for row in rows)
        if tx.kept:
            on_commit(lambda: hooks.call_after_commit(tx))
        if _has_receivers():
            on_commit(lambda: _send_recorded(rows))
    else:
        end = 0
        while (start := end) < len(rows):
            end += chunk_size() if len(rows) > 1 else 1
            create_chunk(rows[start:end], more_follows=end < len(rows), languages=languages)
    return [row.id for row in notifications]


def build_notifications(users: Any, title: Any, **fields: Any) -> tuple[list[Notification], dict[UUID, str]]:
    """Return an unsaved notification for each user, in their order, and by its id the language that is known.

    Lazy texts are translated into the language of each reader, where it is known, else into that of this thread.
    """
    keys = recipient_keys(users)
    languages = read_site_languages(keys) if has_lazy([title, *fields.values()]) else {}

    def build(key: Any) -> Notification:
        return building.build_notification(key, title, **fields)

    if not languages:
        return [build(key) for key in keys], {}
    built: dict[Any, Notification] = {}
    # In groups: changing the language takes longer than most texts.
    for language, readers in groupby(sorted(keys, key=lambda key: languages.get(key, "")), languages.get):
        with translation.override(language) if language else nullcontext():
            built |= {key: build(key) for key in readers}
    return [built[key] for key in keys], {built[key].id: language for key, language in languages.items()}


def chunk_size() -> int:
    """Return how many notifications one transaction inserts at most, with the jobs that extensions add to them."""
    return max(1, int(MAX_ROWS_PER_TRANSACTION / (1 + jobs_added["notifications"])))


def create_chunk(
    rows: Sequence[Notification],
    *,
    more_follows: bool,
    claim: Callable[[], bool] | None = None,
    languages: Mapping[UUID, str] | None = None,
) -> bool:
    """Insert notifications, at most ``chunk_size()`` in the order of their users, and number them.

    ``claim``
        Called first in their transaction. If it returns False, nothing is inserted.
    ``more_follows``
        Leaves SQLite's lock free for other writers before this returns.
    ``languages``
        The language of the reader of each, by its id; by default that of this thread.

    Returns whether they were inserted.
    """
    users = {row.user_id for row in rows}
    is_claimed = True
    tx = RecordedTransaction()

    def insert() -> bool:
        nonlocal is_claimed, tx
        tx = RecordedTransaction(languages=languages or {})
        is_claimed = claim is None or claim()
        if not is_claimed:
            return False
        building.prepare(rows)
        # Numbering in place holds SQLite's lock for a third of the time.
        numbered = streams.number_new(rows)
        wake_workers(insert_notifications(rows, tx))
        if numbered is None:
            return streams.number_in_transaction(users)
        streams.ring(numbered.users, changes=numbered.changes())
        return False

    has_more_to_number = run_owing(partial(fair_atomic, more_follows=more_follows), insert)
    hooks.call_after_commit(tx)
    if has_more_to_number:
        streams.number_committed(users, more_follows=more_follows)
    if is_claimed and _has_receivers():
        _send_recorded(rows)
    return is_claimed


def _has_receivers() -> bool:
    return bool(notification_recorded.receivers) and project_code.current.get() != SILENT_HOST_CODE


def _send_recorded(rows: Sequence[Notification]) -> None:
    for row in rows:
        project_code.send(notification_recorded, "notification_recorded", Notification, notification=row)


def insert_notifications(rows: Sequence[Notification], tx: RecordedTransaction) -> list[Job]:
    """Insert notifications, prepared by ``building.prepare``, and what extensions add to them.

    Returns the jobs among that: ``wake_workers`` follows in the same transaction.
    """
    if not rows:
        return []
    bulk.insert_rows(rows)
    if not hooks.on_created:
        return []
    with streams.uncounting_deleted(rows):
        jobs = insert_returned(call_hooks(hooks.on_created, rows, tx))
    jobs_added["notifications"] = max(len(jobs) / len(rows), SHARE_REMEMBERED * jobs_added["notifications"])
    return jobs


def call_hooks(of_hooks: Iterable[Any], *args: Any) -> list[tuple[Any, Rows]]:
    """Call hooks that return rows. Returns each with its rows, for ``insert_returned()``."""
    return [(hook, hook(*args)) for hook in of_hooks]


def record_change(change: str, rows: Sequence[Any], **known: Any) -> None:
    """Insert, inside a transaction, what extensions add to a change. See ``Extension.on_change()``."""
    if not (rows and hooks.on_change):
        return
    tx = RecordedTransaction(**known)
    wake_workers(insert_returned(call_hooks(hooks.on_change, change, rows, tx)))
    if tx.kept:
        on_commit(lambda: hooks.call_after_commit(tx))


def insert_returned(returned: Iterable[tuple[Any, Rows]]) -> list[Job]:
    """Insert the rows that hooks have returned, as ``insert_rows()``. An error is marked as that of the hook."""
    jobs: list[Job] = []
    with blaming() as blamed:
        for blamed.hook, rows in returned:
            jobs += insert_rows(rows)
    return jobs


def insert_rows(rows: Rows) -> list[Job]:
    """Insert rows of any models. Returns the jobs among them: ``wake_workers`` follows in the same transaction."""
    jobs: list[Job] = []
    for model, of_model in groupby(rows, type):
        same = list(of_model)
        if issubclass(model, Job):
            turns.assign_turns(same)  # type: ignore[arg-type]
            jobs += same  # type: ignore[arg-type]
        for chunk in chunks(same, MAX_ROWS_PER_TRANSACTION):
            bulk.insert_rows(chunk)
    return jobs


def insert_jobs(jobs: Sequence[Job]) -> None:
    """Insert jobs, and have them claimed after the commit."""
    wake_workers(insert_rows(jobs))


def wake_workers(jobs: Sequence[Job]) -> None:
    """Have inserted jobs claimed after the commit, as ``enqueue()`` does."""
    if not jobs:
        return
    rings.expect_own_jobs(jobs)
    rings.ring_new_jobs(jobs, queue=wakes_builtin_worker({row.backend for row in jobs}))
    hooks.dispatch.wake_after_commit(jobs)
    if should_send(task_enqueued, logging.DEBUG):
        on_commit(lambda: signal_queue.send_later(lambda: _send_enqueued(jobs), jobs=len(jobs)))


@contextmanager
def signals_of(task_path: str) -> Iterator[None]:
    """Send the signals of a job of this task inside the block.

    What receivers notify of the job of a handler raises no events, or it would enqueue that job again, without end.
    """
    token = _signaled_tasks.set((*_signaled_tasks.get(), task_path))
    try:
        yield
    finally:
        _signaled_tasks.reset(token)


def signaled_tasks() -> Iterable[str]:
    """Return the paths of the tasks whose signals are being sent in this context."""
    return _signaled_tasks.get()


def _send_enqueued(jobs: Sequence[Any]) -> None:
    for job in jobs:
        backend = type(task_backends[job.backend])
        result = results.task_result(job, attempts=[])
        with signals_of(job.task_path):
            project_code.send(task_enqueued, "task_enqueued", backend, task_result=result)


def number(users: Iterable[Any]) -> bool:
    """Number rows of these users (keys), as the last act of a transaction. Returns whether more may be pending."""
    ordered = sorted(set(users))
    is_full = streams.number_in_transaction(ordered[:MAX_STREAMS_LOCKED])
    return is_full or len(ordered) > MAX_STREAMS_LOCKED
