"""Calls that outlast an execution of their job: pauses, and what steps and all kinds of waits share.

A task calls them by verbs such as ``pause()``, each with a name that is unique in its job. What a verb stores under a
name is returned by later executions of the job without another call, and while the database is away it is tried again.

No model is imported at the top: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence, Sized
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.views.decorators.debug import sensitive_variables

from notifications import validators
from notifications.context import CurrentExecution, ExecutionSteps, current_execution, entered_step
from notifications.db.job_sessions import app_sync_to_async
from notifications.db.transactions import database, in_callers_transaction
from notifications.db.unavailable import is_unavailable, log_retried
from notifications.exceptions import AttemptEnded, JobSuspended
from notifications.extension import hooks

if TYPE_CHECKING:
    from notifications.models import Wait

logger = logging.getLogger("notifications.jobs")
P = ParamSpec("P")
R = TypeVar("R")

#: Steps and waits that one job may have.
MAX_STEPS = 10_000
#: Seconds between two calls while the database is away.
RETRY_INTERVAL_SECONDS = 0.5
#: The longest time for which a job waits.
MAX_DURATION = timedelta(days=3660)


class DurableCall:
    """A call of a verb by a task, such as ``step()``, under names that are unique in the job.

    ``execution``
        That of the job in whose task it is; None outside of a job.
    """

    execution: Any

    def __init__(
        self, function: str, *names: Any, is_async: bool = False, may_be_outside: bool = False
    ) -> None:
        """Validate the names, and note them in the execution.

        ``function``
            The name of the verb in errors. One that is not ``is_async`` blocks its thread while it reads.
        ``may_be_outside``
            It may be called outside of a job.

        Raises SynchronousOnlyOperation on an event loop, RuntimeError inside a transaction and outside of a job;
        ``AttemptEnded`` and ``JobSuspended``; TypeError and ValueError for a name.
        """
        self.names, self.execution = names, current_execution()
        if not is_async:
            self.refuse_to_block(function)
        for name in names:
            self._note(validators.text("name", name, validators.MAX_KEY_LENGTH, required=True))
        if self.execution is None and not may_be_outside:
            raise RuntimeError(
                f"{function}() was called outside of a job, which it suspends. Call it in a task."
            )

    def _note(self, name: str) -> None:
        if self.execution is None:
            return
        self.check_running()
        used_names = self.steps.used_names
        if name in used_names:
            raise ValueError(
                f"The name {name!r} was used before in this attempt. Give each step and each wait a name of its own."
            )
        _refuse_more(used_names)
        used_names.add(name)

    @property
    def steps(self) -> ExecutionSteps:
        """What the execution knows of its steps and waits."""
        if self.execution.steps is None:
            self.execution.steps = ExecutionSteps()
        return self.execution.steps  # type: ignore[no-any-return]

    def enter(self, name: str) -> AbstractContextManager[None]:
        """Make a step with this name the one that runs in this context, inside the ``with`` block."""
        return entered_step(self.execution.job.id, name)

    @property
    def may_have_stored(self) -> bool:
        """Whether an earlier execution may have stored something: the first claim raises the fence to 1."""
        return bool(self.execution.job.fence > 1)

    def check_running(self) -> None:
        """Raise ``AttemptEnded`` if the attempt is over, and ``JobSuspended`` if the job is to be suspended."""
        if self.execution.is_over or self.execution.is_stopping:
            raise AttemptEnded
        if self.execution.waits:
            raise JobSuspended  # by another task of a gather(), or it was caught

    def refuse_to_block(self, function: str) -> None:
        """Raise SynchronousOnlyOperation on an event loop, and RuntimeError inside a transaction.

        What it stores would stay when the transaction is rolled back, and SQLite's lock is held for that.
        """
        refuse_on_event_loop(function)
        if self.execution is not None and in_callers_transaction() and not self.execution.run_inline:
            raise RuntimeError(
                f"{function}() was called inside a transaction, with which it could not be stored. Call it outside of "
                "the atomic block; the function of a step may open one."
            )

    def is_stored(self, name: str, kind: str) -> bool:
        """Return whether something is stored under a name. What is stored is read once in an execution.

        Raises ValueError if it is of another kind than a "step", or than this one of ``Wait``, or one more than a job
        has.
        """
        from notifications.models import Wait

        if not self.may_have_stored:
            return False
        steps = self.steps
        if steps.stored_kinds is None:
            waits = Wait.objects.using(database()).filter(job=self.execution.job.id)
            kinds = dict(waits.values_list("name", "kind"))
            for hook in hooks.steps_of:
                # Without what cannot be read now a call that was paid for would be made again.
                found, _ = hook.raising(
                    self.execution.job, MAX_STEPS, with_results=False, with_unfinished=False
                )
                kinds |= dict.fromkeys((step.name for step in found), "step")
            steps.stored_kinds = kinds
        stored_kind = steps.stored_kinds.get(name, kind)
        if stored_kind != kind:
            raise ValueError(
                f"The name {name!r} is that of a {stored_kind} of this job, and cannot be that of a {kind}. "
                "Use another one."
            )
        if name not in steps.stored_kinds:
            _refuse_more(steps.stored_kinds)  # of attempts that have used other names
            return False
        return True

    @sensitive_variables("args", "kwargs")
    def read(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what ``func`` returns. While the database is away it is called again, until the attempt has to end.

        An outage must not fail a job that would only read what it has paid for.
        """
        while not (found := self._try_to_read(func, *args, **kwargs)):
            time.sleep(RETRY_INTERVAL_SECONDS)
        return found[0]

    @sensitive_variables("args", "kwargs")
    async def aread(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See read(). ``func`` is called in a thread."""
        while True:
            if found := await app_sync_to_async(self._try_to_read)(func, *args, **kwargs):
                return found[0]
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)

    @sensitive_variables("args", "kwargs")
    def _try_to_read(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """Return what ``func`` returns in a list, an empty one if a later call may succeed."""
        try:
            return [func(*args, **kwargs)]
        except Exception as exc:
            if not _may_try_again(self.execution, exc):
                raise
            return []

    def new_waits(
        self, names: Sequence[str], kind: str, lasts: timedelta | None, title: str = ""
    ) -> list[Wait]:
        """Return unsaved waits of these names that end by themselves after some time, if any."""
        from notifications.models import Wait

        job = self.execution.job
        waits = [Wait(job=job.id, name=name, kind=kind, title=title, attempt=job.attempt) for name in names]
        for wait in waits:
            wait.lasts = lasts
        return waits

    def suspend(self, waits: Sequence[Wait]) -> NoReturn:
        """End the execution, whose job waits for these. Those that are stored already stay as they are."""
        if not self.execution.waits:
            self.execution.waits = waits
        raise JobSuspended

    def wait_for_all(self, kind: str, make: Make, finish: Finish[R]) -> R:
        """Suspend the job until its waits of these names have ended, and return what ``finish`` returns.

        ``make`` and ``finish`` are called again while the database is away.
        """
        return self._suspend_or_return(self.read(self._read_waits, kind, make, finish))

    async def await_for_all(self, kind: str, make: Make, finish: Finish[R]) -> R:
        """See wait_for_all()."""
        return self._suspend_or_return(await self.aread(self._read_waits, kind, make, finish))

    def _read_waits(self, kind: str, make: Make, finish: Finish[R]) -> tuple[list[Wait], R | None]:
        """Return the waits that are open, stored or new, and what the task gets if there are none."""
        from notifications.models import Wait

        stored = [name for name in self.names if self.is_stored(name, kind)]
        rows = Wait.objects.using(database()).filter(job=self.execution.job.id, name__in=stored)
        waits = {wait.name: wait for wait in rows}
        if new := [name for name in self.names if name not in waits]:
            waits |= {wait.name: wait for wait in make(self, new)}
        if opened := [waits[name] for name in self.names if waits[name].ended_at is None]:
            return opened, None
        return [], finish(self, [waits[name] for name in self.names])

    def _suspend_or_return(self, read: tuple[list[Wait], Any]) -> Any:
        opened, result = read
        if opened:
            self.suspend(opened)
        return result


#: Makes the unsaved waits of a call that have these names.
Make = Callable[[DurableCall, Sequence[str]], Sequence["Wait"]]
#: Returns what the task gets, from the waits in the order of their names, which have ended.
Finish = Callable[[DurableCall, Sequence["Wait"]], R]


def _refuse_more(names: Sized) -> None:
    if len(names) >= MAX_STEPS:
        raise ValueError(
            f"The job has {MAX_STEPS} steps and waits, and may not have more. Divide its work among jobs."
        )


def _may_try_again(execution: CurrentExecution, exc: Exception) -> bool:
    """Return whether a later call may succeed. Closes the connections of this thread that are broken."""
    if not is_unavailable(exc) or execution.run_inline or execution.is_over or execution.is_stopping:
        return False
    if in_callers_transaction():
        return False
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
    log_retried(logger, "Could not read what jobs have stored, which is tried again", exc)
    return True


def refuse_on_event_loop(name: str) -> None:
    """Raise SynchronousOnlyOperation if the function of this name, which waits, would block an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SynchronousOnlyOperation(f"{name}() would block the event loop. Use await a{name}().")
    execution = current_execution()
    if execution and execution.job_threads and execution.job_threads.runs_this_thread():
        raise SynchronousOnlyOperation(
            f"{name}() would block a thread that this async task shares with others. Use await a{name}()."
        )


def pause(name: str, duration: timedelta) -> None:
    """Suspend the job for some time. Its function is then called again from the start, and goes on from here.

    ::

        step("send-first", send_mail, "welcome", user.pk)
        pause("three-days", timedelta(days=3))
        step("send-second", send_mail, "tips", user.pk)

    ``name``
        As that of ``step()``, of whose names it must differ: what is before the pause belongs into steps.
    ``duration``
        More than nothing, at most ten years. It counts from when the pause is stored; a deploy with another duration
        does not change a pause that has begun.

    The job is ``waiting`` meanwhile, and holds no slot, lease or ``concurrency_key``.
    Neither the pause counts for its ``timeout``, nor the next attempt for its ``max_attempts``.

    Raises ``JobSuspended`` of ``notifications.exceptions``, which the task must let pass; RuntimeError outside of a
    job and inside a transaction.
    """
    duration = validate_duration("duration", duration)
    return DurableCall("pause", name).wait_for_all("pause", _pauses_of(duration), _go_on)


async def apause(name: str, duration: timedelta) -> None:
    """See pause(). asyncio tasks that the job has started are cancelled."""
    duration = validate_duration("duration", duration)
    call = DurableCall("apause", name, is_async=True)
    return await call.await_for_all("pause", _pauses_of(duration), _go_on)


def _pauses_of(duration: timedelta) -> Make:
    return lambda call, names: call.new_waits(names, "pause", duration)


def _go_on(call: DurableCall, waits: Sequence[Wait]) -> None:
    """Return nothing: the pause has ended."""


def validate_duration(name: str, duration: Any) -> timedelta:
    """Return how long a job waits. Raises TypeError and ValueError."""
    if not isinstance(duration, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {type(duration).__name__}.")
    if not timedelta() < duration <= MAX_DURATION:
        raise ValueError(
            f"{name} is {duration}. It must be more than nothing, and at most {MAX_DURATION.days} days."
        )
    return duration
