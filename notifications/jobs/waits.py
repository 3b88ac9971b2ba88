"""Waits of every kind: a task waits under a name, and code of a project ends the wait, as a view does.

What a kind adds to a wait, such as notifications, is in its ``WaitKind``. No model is imported at the top:
``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications import validators
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.job_sessions import app_sync_to_async
from notifications.db.transactions import database, in_callers_transaction, retrying_atomic
from notifications.exceptions import WaitDoesNotExist, WaitEnded
from notifications.extension import WaitKind, hooks
from notifications.ids import id_of
from notifications.jobs.durable_calls import DurableCall, Make, validate_duration

if TYPE_CHECKING:
    from notifications.models import Wait

#: Characters of the word for how a wait has ended, and bytes of its value as JSON.
MAX_HOW_LENGTH, MAX_VALUE_BYTES = 12, 64 * 1024
#: How waits end by the app itself: a retry by hand waits for the last two anew.
APP_WORDS = ("due", "expired", "cancelled")


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedWait:
    """How a wait has ended: what ``wait_for()`` and ``end_wait()`` return.

    ``how``
        What was passed to ``end_wait()``; ``"expired"`` if its time was over before, or what ``WaitKind.ends_by_time``
        says.
    ``value``
        What was passed to ``end_wait()``, as JSON has it.
    ``user``
        The key of the user who has ended it, None if no user has.
    ``ended_at``
        An aware datetime in UTC.
    ``via``
        What was passed to ``end_wait()``.
    """

    how: str
    value: Any
    user: Any
    ended_at: datetime
    via: str


def wait_for(
    kind: type[WaitKind], name: str, *, title: str = "", expires: timedelta | None = None
) -> EndedWait:
    """Suspend the job until code of the project has ended this wait, and return how.

    ::

        signature = wait_for(Signature, "contract", title="Signature of the contract", expires=timedelta(days=14))

    ``kind``
        A subclass of ``WaitKind`` that an installed extension has in ``wait_kinds``.
    ``name``
        As that of ``step()``, of whose names it must differ.
    ``title``
        What people read of it, at most 200 characters; by default the name.
    ``expires``
        More than nothing, at most ten years, from when the wait is stored. Without it the job waits without limit.

    The function of the task is called again from the start when the wait has ended: see ``pause()``.

    Raises ``JobSuspended`` of ``notifications.exceptions``, which the task must let pass; RuntimeError outside of a
    job and inside a transaction; TypeError; ValueError, also for a kind that no installed
    extension has.
    """
    make = _maker(kind, title, expires)
    return DurableCall("wait_for", name).wait_for_all(_installed(kind), make, _describe_first)


async def await_for(
    kind: type[WaitKind], name: str, *, title: str = "", expires: timedelta | None = None
) -> EndedWait:
    """See wait_for()."""
    make = _maker(kind, title, expires)
    call = DurableCall("await_for", name, is_async=True)
    return await call.await_for_all(_installed(kind), make, _describe_first)


def end_wait(
    kind: type[WaitKind],
    job: Any,
    name: str,
    *,
    how: str,
    value: Any = None,
    user: Any = None,
    via: str = "",
) -> EndedWait:
    """End a wait of a job, which goes on if it waits for nothing else. Return how the wait has ended.

    ::

        end_wait(Signature, job_id, "contract", how="signed", value={"place": "Bern"}, user=request.user)

    ``kind``, ``name``
        As they were passed to ``wait_for()``.
    ``job``
        Its id, a ``JobInfo``, or what ``enqueue`` returned.
    ``how``
        A word of the kind, of at most 12 characters, which pages show. Not ``due``, ``expired`` or ``cancelled``.
    ``value``
        JSON of at most 64 KiB.
    ``user``
        Who ends it, a user. Whether they may is for the caller to check.
    ``via``
        By which means, of which 100 characters are stored, such as the name of the browser.

    The first end counts. Raises ``WaitEnded`` of ``notifications.exceptions`` if there is one already, the time is over
    or the job was cancelled, and ``WaitDoesNotExist`` without such a wait; TypeError and ValueError. A transaction of
    the caller includes it. Any thread that may use the database calls it.
    """
    from notifications.models import Wait

    if user is not None and not hasattr(user, "get_username"):
        raise TypeError(f"user is {user!r}. Pass the user, such as request.user.")
    how = validators.text("how", how, MAX_HOW_LENGTH, required=True)
    if how in APP_WORDS:
        raise ValueError(f"how is {how!r}, by which the app ends waits. Use another word.")
    id = _job_id(job, name)
    rows = Wait.objects.using(database()).filter(job=id, kind=_installed(kind), name=name)
    encoded = None if value is None else validators.json_text("value", value, MAX_VALUE_BYTES)
    wait, is_ended_here = end_stored(id, rows, how=how, value=encoded, user=user, via=via)
    if wait is None:
        raise WaitDoesNotExist(id, name)
    if not is_ended_here:
        raise WaitEnded(name, wait.how)
    return _describe(wait)


async def aend_wait(
    kind: type[WaitKind],
    job: Any,
    name: str,
    *,
    how: str,
    value: Any = None,
    user: Any = None,
    via: str = "",
) -> EndedWait:
    """See end_wait()."""
    return await app_sync_to_async(end_wait)(kind, job, name, how=how, value=value, user=user, via=via)


def end_stored(
    job: UUID,
    rows: Any,
    *,
    how: str,
    value: str | None = None,
    user: Any = None,
    user_name: str = "",
    via: str = "",
) -> tuple[Any, bool]:
    """End the first of a queryset of waits of a job, unless it has ended or its time is over, which ends it too.

    ``value``
        JSON.
    ``user_name``
        ``ended_by_name`` of the wait, for its kind.

    Returns the wait as it is stored, None if there is none, and whether it was ended by this call.
    """
    from notifications.jobs.owed_calls import run_owing
    from notifications.jobs.transitions.conditional_updates import limit_lock_wait
    from notifications.jobs.transitions.waiting import end_waits
    from notifications.models import Job

    is_nested = in_callers_transaction()

    def write() -> tuple[Any, bool]:
        if not is_nested:
            limit_lock_wait()
        # Whatever the state of the job: one that is being suspended must see this end, or this must see it wait.
        lock_query(Job.objects.using(database()).filter(id=job).only("id"), skip_locked=False).first()
        wait = rows.all().first()
        if wait is None or wait.ended_at is not None:
            return wait, False
        now = database_now()
        # The duty that ends it has not come to it yet.
        if is_late := wait.due_at is not None and wait.due_at <= now:
            wait.how = hooks.find_wait_kind(wait.kind).ends_by_time
        else:
            wait.how, wait.value, wait.ended_with = how, value, via[:100]
            wait.ended_by_id = None if user is None else user.pk
            wait.ended_by_name = user_name
        # A transaction of the caller goes on after this, and must not hold streams while it waits for rows.
        end_waits([wait], now, defer_numbering=is_nested)
        return wait, not is_late

    return run_owing(retrying_atomic, write)


def _maker(kind: type[WaitKind], title: str, expires: timedelta | None) -> Make:
    title = validators.label("title", title, validators.MAX_TITLE_LENGTH)
    lasts = None if expires is None else validate_duration("expires", expires)
    return lambda call, names: call.new_waits(names, kind.kind, lasts, title)


def _describe_first(call: DurableCall, waits: Sequence[Wait]) -> EndedWait:
    return _describe(waits[0])


def _describe(wait: Wait) -> EndedWait:
    assert wait.ended_at
    return EndedWait(
        how=wait.how,
        value=None if wait.value is None else json.loads(wait.value),
        user=wait.ended_by_id,
        ended_at=wait.ended_at,
        via=wait.ended_with,
    )


def _installed(kind: type[WaitKind]) -> str:
    if not (isinstance(kind, type) and issubclass(kind, WaitKind)):
        raise TypeError(f"kind is {kind!r}. Pass its class, a subclass of WaitKind.")
    if kind.kind not in hooks.wait_kinds:
        raise ValueError(
            f"No installed extension has {kind.__name__} in wait_kinds. Add it there, and the extension to "
            "INSTALLED_APPS."
        )
    return kind.kind


def _job_id(job: Any, name: str) -> UUID:
    id = id_of(job, f"{job!r} is no job. Pass its id, a JobInfo, or what enqueue() returned.")
    if id is None:
        raise WaitDoesNotExist(getattr(job, "id", job), name)
    return id
