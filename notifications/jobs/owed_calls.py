"""What extensions owe to a transaction, because one of their hooks failed.

The transaction is repeated without that extension, and stores the calls of its hooks that it has left out: one row for
each job, notification, wait and worker. A duty makes these calls later (``calling_owed.py``). So what an extension adds
is never dropped, and nothing waits for one that fails.

All hooks of the extension are left out, not only the one that failed, because they may rely on each other: its counts
are kept by one and written by the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db import Error

from notifications.db import bulk
from notifications.db.clock import database_now
from notifications.db.unavailable import is_unavailable
from notifications.extension import RecordedTransaction, hooks
from notifications.extension.calls import (
    UNKNOWN_HOOK,
    HookName,
    blame,
    log_owed,
    mark,
    name_of,
    owing,
)
from notifications.ids import uuid7
from notifications.jobs.outcomes import Outcome
from notifications.models import Job, Notification, OwedCall, Wait

T = TypeVar("T")

#: What of an outcome is stored as it is.
OUTCOME_FIELDS = (
    *("state", "result", "error", "attempt", "exception_class_path", "traceback", "location"),
    *("retry_delay", "is_requested"),
)
#: What differs between the call of a hook and the row that the transaction stores: it is a fact of the outcome.
NOT_OF_JOB = {"result", "error"}


def run_owing(run: Callable[[Callable[[], T]], T], work: Callable[[], T]) -> T:
    """Run ``work`` in a transaction of the app's own by ``run``, and again without the extensions whose hooks fail.

    That transaction stores what these owe. Raises what is no fault of a hook, and what ``run`` raises while the
    database is away.
    """
    prepare_hooks()
    owed = _LeftOut()
    while True:
        try:
            return run(partial(owed.write, work))
        except Exception as exc:
            if not owed.leave_out(exc):
                raise


def prepare_hooks() -> None:
    """Let extensions import and read what they need, before a transaction."""
    for prepare in hooks.prepare:
        prepare()


class blaming:
    """Mark the error of a ``with`` block, which inserts what ``hook`` has returned, as that of the hook."""

    hook: Any = None

    def __enter__(self) -> blaming:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is not None:
            mark(exc, name_of(self.hook))


class _LeftOut:
    """The extensions that the next try of a transaction leaves out, and the calls that this try owes them."""

    def __init__(self) -> None:
        self.extensions: set[str] = set()
        self._calls: list[OwedCall] = []
        self._suspected: set[HookName] = set()
        self._is_one_by_one = False
        self._is_written = False

    def write(self, work: Callable[[], T]) -> T:
        self._calls, self._is_written = [], False
        # Not for what follows the commit, whose calls would not be stored.
        before = owing.take, owing.is_one_by_one
        owing.take, owing.is_one_by_one = self.take if self.extensions else None, self._is_one_by_one
        try:
            result = work()
        finally:
            owing.take, owing.is_one_by_one = before
        if self._calls:
            now = database_now()
            for call in self._calls:
                call.due_at = now
            bulk.insert_rows(self._calls)
        self._is_written = True
        return result

    def take(self, name: HookName, args: tuple[Any, ...]) -> bool:
        """Keep a call of a hook, and return True, if its extension is left out."""
        if name.extension not in self.extensions:
            return False
        if name.hook == "last":
            # It follows the other calls of its extension also later.
            is_owed = not any(call.extension == name.extension for call in self._calls)
            found = [(uuid7(), _facts(args[0]))] if is_owed else []
        else:
            found = list(_SUBJECTS[name.hook](name.extension, *args))
        self._calls += [
            OwedCall(
                extension=name.extension, hook=name.hook, subject=id, facts=json.dumps(facts), due_at=None
            )
            for id, facts in found
        ]
        return True

    def leave_out(self, exc: Exception) -> bool:
        """Leave out the extension whose hook has raised this error. Return whether another try may succeed.

        One of the database may be about rows of a hook that were sent together with others: then the next try sends
        them one by one.
        """
        name = blame(exc, is_at_commit=self._is_written)
        if name is None and isinstance(exc, Error) and not (self._is_one_by_one or is_unavailable(exc)):
            self._is_one_by_one = True
            return True
        if name is None or name.extension in self.extensions:
            return False
        if is_unavailable(exc) and name not in self._suspected:
            # A deadlock, or a database that is away, is no fault of the hook that meets it, unless it does again.
            self._suspected.add(name)
            return True
        log_owed(name, exc)
        others = (each.label for each in hooks.extensions) if name == UNKNOWN_HOOK else ()
        self.extensions |= {name.extension, *others}
        return True


def encode_row(row: Any) -> dict[str, Any]:
    """Return the values of a row as JSON has them."""
    return {
        field.attname: None if getattr(row, field.attname) is None else field.value_to_string(row)
        for field in row._meta.concrete_fields
    }


def decode_row(model: Any, values: dict[str, Any]) -> Any:
    """Return an instance with these values. Another version of the app may have stored them."""
    found = {
        field.attname: values[field.attname]
        if values[field.attname] is None
        else field.to_python(values[field.attname])
        for field in model._meta.concrete_fields
        if field.attname in values
    }
    return model(**found)


def decode_transaction(facts: dict[str, Any]) -> RecordedTransaction:
    """Return what the hook was to know of its transaction."""
    now = facts.get("now")
    moment = None if now is None else datetime.fromisoformat(now)
    return RecordedTransaction(now=moment, has_run=facts.get("has_run", False), is_late=True)


def decode_outcome(facts: dict[str, Any], notification: Notification | None) -> Outcome:
    """Return the outcome with which a hook was to be called."""
    job = decode_row(Job, facts["job"])
    job.result, job.error = facts["of_job"]
    waits = [decode_row(Wait, values) for values in facts["waits"]]
    stored = {name: facts["outcome"][name] for name in OUTCOME_FIELDS if name in facts["outcome"]}
    return Outcome(job=job, notification=notification, waits=waits, **stored)


def _facts(tx: RecordedTransaction) -> dict[str, Any]:
    return {"now": tx.now and tx.now.isoformat(), "has_run": tx.has_run}


def _of_outcomes(
    extension: str, outcomes: Iterable[Outcome], tx: RecordedTransaction
) -> Iterator[tuple[UUID, dict[str, Any]]]:
    keep = hooks.keep_for_later.get(extension)
    for outcome in outcomes:
        job = outcome.job
        yield (
            job.id,
            {
                **_facts(tx),
                "job": {name: value for name, value in encode_row(job).items() if name not in NOT_OF_JOB},
                "of_job": [job.result, job.error],
                "outcome": {name: getattr(outcome, name) for name in OUTCOME_FIELDS},
                "notification": outcome.notification and str(outcome.notification.id),
                "waits": [encode_row(wait) for wait in outcome.waits],
                "kept": keep(outcome) if keep else "",
            },
        )


def _of_notifications(
    extension: str, rows: Iterable[Notification], tx: RecordedTransaction | None = None
) -> Iterator[tuple[UUID, dict[str, Any]]]:
    for row in rows:
        if tx is None:  # before_created
            yield row.id, {}
            continue
        job = tx.jobs.get(row.id)
        of_row = {"language": tx.language_of(row), "job": job and encode_row(job)}
        yield row.id, {**_facts(tx), **of_row}


def _of_change(
    extension: str, change: str, rows: Sequence[Any], tx: RecordedTransaction
) -> Iterator[tuple[UUID, dict[str, Any]]]:
    for row in rows:
        job = tx.jobs.get(row.id)
        # Notifications stay. The rows of lost workers are deleted.
        of_row = {"job": job and encode_row(job)} if change == "answered" else {"worker": encode_row(row)}
        yield row.id, {**_facts(tx), "change": change, **of_row}


def _of_waits(extension: str, waits: Iterable[Wait], *others: Any) -> Iterator[tuple[UUID, dict[str, Any]]]:
    yield from ((wait.id, {"ended_by_name": wait.ended_by_name}) for wait in waits)


#: By the name of each hook: what returns the id and the facts of each subject that it was to be called with.
_SUBJECTS: dict[str, Callable[..., Iterable[tuple[UUID, dict[str, Any]]]]] = {
    **dict.fromkeys(("on_attempts", "on_ends"), _of_outcomes),
    **dict.fromkeys(("before_created", "on_created"), _of_notifications),
    "on_change": _of_change,
    **dict.fromkeys(("opened", "ended"), _of_waits),
    # ended() follows.
    "notification_ids": lambda *args: (),
}
