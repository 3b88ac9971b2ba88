"""Call the hooks of extensions that transactions have left out (``owed_calls.py``), each subject by itself.

Calls of one extension about one subject are made in the order in which they were left out. After an error the next try
follows later and later. Calls of an extension that is not installed any more are kept until it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F

from notifications.db.bulk import lock_query
from notifications.db.clock import database_now, database_now_sql
from notifications.db.keyset import read_ids
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, database, fair_atomic, retrying_atomic
from notifications.db.unavailable import is_unavailable
from notifications.extension import RecordedTransaction, hooks
from notifications.extension.calls import HookName, hook_of, log_owed, name_of
from notifications.extension.duty import pause_after
from notifications.jobs.notifying import insert_returned, number, wake_workers
from notifications.jobs.owed_calls import (
    decode_outcome,
    decode_row,
    decode_transaction,
    prepare_hooks,
)
from notifications.jobs.transitions import waiting
from notifications.models import Job, Notification, OwedCall, Wait, Worker

#: The calls that are counted at most: the oldest ones, because those that succeed do not stay.
MAX_COUNTED = 1_000
#: A call that follows one of the same extension about the same subject is not due before that.
_IS_DUE = (
    "due_at <= {now} AND NOT EXISTS (SELECT 1 FROM notifications_owedcall AS earlier "
    "WHERE earlier.subject = notifications_owedcall.subject AND earlier.due_at > {now} "
    "AND earlier.extension = notifications_owedcall.extension AND earlier.id < notifications_owedcall.id)"
)


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``call_due()`` may find something, and its parameters."""
    labels = _labels()
    if not labels:
        return "1 = 0", ()
    now, param = database_now_sql()
    marks = ", ".join(["%s"] * len(labels))
    table = OwedCall._meta.db_table
    where = f"extension IN ({marks}) AND {_IS_DUE.format(now=now)}"
    return f"EXISTS (SELECT 1 FROM {table} WHERE {where})", (*labels, param, param)


def count_owed_calls() -> Mapping[str, int]:
    """Return how many calls are owed that have failed again, or whose extension is not installed, by hook.

    Of the oldest ``MAX_COUNTED``.
    """
    rows = OwedCall.objects.using(database()).order_by("id").values_list("extension", "hook", "tries")
    installed = _labels()
    return Counter(
        str(HookName(extension, hook))
        for extension, hook, tries in rows[:MAX_COUNTED]
        if tries or extension not in installed
    )


def find_due() -> Iterator[int]:
    """Yield the ids of calls that are due, those first that have been for longest."""
    now, param = database_now_sql()
    for label in _labels():
        where = f"extension = %s AND {_IS_DUE.format(now=now)}"
        yield from read_ids(OwedCall, where, [label, param, param], "due_at")


def call_due() -> None:
    """Make the calls that are due."""
    for id in find_due():
        make_call(id)


def make_call(id: int) -> None:
    """Call a hook, and store what it returns. After an error it is called again later."""
    calls = OwedCall.objects.using(database())
    rows = calls.filter(id=id)
    call = rows.first()
    if call is None:  # another process has made it
        return
    if calls.filter(extension=call.extension, subject=call.subject, id__lt=id).exists():
        return
    kept: list[RecordedTransaction] = []
    prepare_hooks()
    try:
        fair_atomic(lambda: _make_call(rows, kept))
    except _Held:
        return  # it is found again
    except Exception as exc:
        if hook_of(exc) is None and is_unavailable(exc):
            raise
        # If the database was away for the hook, it is for this too.
        # What an opened wait adds passes through the hooks of other extensions.
        log_owed(hook_of(exc) or HookName(call.extension, call.hook), exc)
        until = database_now() + timedelta(seconds=pause_after(call.tries + 1))
        retrying_atomic(lambda: rows.update(tries=F("tries") + 1, due_at=until))
        return
    if kept and call.tries:  # the hook works again
        # Some of them, each of which has some more be called.
        now = database_now()
        others = calls.filter(extension=call.extension, hook=call.hook, tries__gt=0, due_at__gt=now)
        if ids := list(others.order_by("due_at").values_list("id", flat=True)[:MAX_ROWS_PER_TRANSACTION]):
            retrying_atomic(lambda: calls.filter(id__in=ids).update(due_at=now))
    for tx in kept:
        hooks.call_after_commit(tx)


def _make_call(rows: Any, kept: list[RecordedTransaction]) -> None:
    kept.clear()
    call = lock_query(rows).first()
    if call is None:
        return
    facts = json.loads(call.facts)
    tx = decode_transaction(facts)
    users: set[Any] = set()
    if call.hook in ("opened", "ended"):
        users = _call_wait_kind(call, facts)
    elif hook := _find_hook(call.extension, call.hook):
        if call.hook == "before_created":
            users = _call_before_created(hook, call.subject)
        elif call.hook != "last":
            returned = [(hook, hook(*args)) for args in _read_arguments(call, facts, tx)]
            wake_workers(insert_returned(returned))
        if last := _find_hook(call.extension, "last"):
            last(tx)
    rows.delete()
    number(users)
    kept.append(tx)


def _read_arguments(
    call: OwedCall, facts: dict[str, Any], tx: RecordedTransaction
) -> Iterable[tuple[Any, ...]]:
    """Yield the arguments of the call, nothing if what it is about was deleted since."""
    notifications = Notification.objects.using(database())
    job = decode_row(Job, facts["job"]) if facts.get("job") else None
    if call.hook in ("on_attempts", "on_ends"):
        row = notifications.filter(id=facts["notification"]).first() if facts["notification"] else None
        outcome = decode_outcome(facts, row)
        if row:
            tx.jobs = {row.id: outcome.job}
        if facts["kept"]:
            tx.kept[call.extension] = facts["kept"]
        yield [outcome], tx
        return
    if facts.get("worker"):
        yield facts["change"], [decode_row(Worker, facts["worker"])], tx
        return
    row = notifications.filter(id=call.subject).first()
    if row is None:
        return
    tx.jobs = {row.id: job} if job else {}
    tx.languages = {row.id: facts.get("language", "")}
    yield (facts["change"], [row], tx) if call.hook == "on_change" else ([row], tx)


def _call_before_created(hook: Any, id: UUID) -> set[Any]:
    """Change a notification as it should have been stored, unless its user has read or archived it since."""
    found = Notification.objects.using(database()).filter(id=id, read_at=None, archived_at=None)
    row = _lock_first(found)
    if row is None:
        return set()
    names = [field.attname for field in row._meta.concrete_fields]
    before = {name: getattr(row, name) for name in names}
    hook([row])
    if changed := {name: getattr(row, name) for name in names if getattr(row, name) != before[name]}:
        Notification.objects.using(database()).filter(id=id).update(**{**changed, "seq": None})
        return {row.user_id}
    return set()


def _call_wait_kind(call: OwedCall, facts: dict[str, Any]) -> set[Any]:
    """Open or close the notifications of a wait. Returns the keys of the users whose rows have changed."""
    rows = Wait.objects.using(database()).filter(id=call.subject)
    job = rows.values_list("job", flat=True).first()
    # The order of locks: jobs, then notifications.
    locked = job and _lock_first(Job.objects.using(database()).filter(id=job))
    wait = rows.first()
    if wait is None:
        return set()
    if call.hook == "ended":
        wait.ended_by_name = facts["ended_by_name"]
        return waiting.close_notifications([wait], wait.ended_at or database_now())
    if locked is None or wait.ended_at is not None:
        return set()
    return waiting.open_notifications(wait, locked)


def _lock_first(rows: Any) -> Any:
    """Lock the row of a query, without waiting, and return it. Raises ``_Held``."""
    row = lock_query(rows).first()
    if row is None and rows.exists():
        raise _Held
    return row


class _Held(Exception):
    """Another transaction holds the row: this thread records outcomes, and must not wait for it."""


def _find_hook(extension: str, name: str) -> Any:
    return next((hook for hook in getattr(hooks, name) if name_of(hook).extension == extension), None)


def _labels() -> list[str]:
    return [each.label for each in hooks.extensions]
