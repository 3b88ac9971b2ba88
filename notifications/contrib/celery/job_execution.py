"""The function that a worker calls for the job of a ``JobTask``: the task, as Celery would call it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import update_wrapper
from types import MethodType
from typing import Any

from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Ignore, Retry
from celery.utils.nodenames import default_nodename

from notifications import jobs
from notifications.contrib.celery.job_arguments import decode_arguments, encode
from notifications.contrib.celery.job_calls import moment
from notifications.worker import current_execution

logger = logging.getLogger("notifications.jobs")

#: The kinds of the parameters of a wrapper that names none.
ANYTHING = [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


class JobRequest(Context):  # type: ignore[misc]
    """``self.request`` of a task whose job runs.

    ``requested_retry``
        What ``retry()`` has returned or raised, which the task may catch.
    ``has_no_retries_left``
        ``retry()`` has refused another attempt. ``autoretry_for`` would request it again for the exception that is
        raised then.
    """

    requested_retry: Retry | None = None
    has_no_retries_left = False

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        #: The request of a call of the task inside the task, a ``Context``, has the same attributes.
        self.job_request = self


def make_function(task: Any) -> Callable[..., Any]:
    """Return the function of the jobs of a task: with the path, signature and policy of the task's own function."""
    run = getattr(task, "_orig_run", task.run)  # without what autoretry_for has put around it
    own = getattr(run, "__func__", run)

    def call(*args: Any, **kwargs: Any) -> Any:
        execution = current_execution()
        if execution is None or execution.job.task_path != path:
            return task(*args, **kwargs)
        return run_job(task, execution.job, *decode_arguments(args, kwargs))

    update_wrapper(call, own)
    del call.__wrapped__  # type: ignore[attr-defined]
    call.__signature__ = signature_of_calls(run)  # type: ignore[attr-defined]
    if not getattr(task, "_decorated", False):  # a class with a method run()
        cls = type(task)
        call.__module__, call.__qualname__, call.__name__ = cls.__module__, cls.__qualname__, cls.__name__
    path = f"{call.__module__}.{call.__qualname__}"
    return call


def signature_of_calls(run: Callable[..., Any]) -> inspect.Signature:
    """Return what a task can be called with: as Celery has it, of a decorated one what its wrapper takes.

    A wrapper that takes anything passes it on to the function below, whose parameters have names.
    """

    def signature_of(function: Callable[..., Any]) -> inspect.Signature:
        bound = MethodType(function, run.__self__) if inspect.ismethod(run) else function
        return inspect.signature(bound, follow_wrapped=False)

    def names_parameters(function: Callable[..., Any]) -> bool:
        return [each.kind for each in signature_of(function).parameters.values()] != ANYTHING

    return signature_of(inspect.unwrap(getattr(run, "__func__", run), stop=names_parameters))


def run_job(task: Any, job: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a task for its job. Raises what the task raises, or ``RetryRequested``."""
    id = job.idempotency_key or str(job.id)
    request = JobRequest(
        id=id,
        task=task.name,
        root_id=id,
        correlation_id=id,
        args=list(args),
        kwargs=dict(kwargs),
        retries=job.retries,
        group=job.inbox_group or None,
        called_directly=False,
        delivery_info={},
        headers={},
        hostname=default_nodename(None),
        utc=True,
    )
    task.request_stack.push(request)
    _task_stack.push(task)
    try:
        value = task(*args, **kwargs)
    except Retry:
        if request.requested_retry is None:  # not of retry() for this job, so nothing bounds it
            raise
    except Ignore:
        value = None
    finally:
        _task_stack.pop()
        task.request_stack.pop()
    if retry := request.requested_retry:
        raise jobs.RetryRequested(_delay_of(retry)) from (retry.exc or retry)
    return _storable_result(task, value)


def _delay_of(retry: Retry) -> float:
    """Return the seconds until a retry, whose time may be seconds or a datetime, naive in UTC."""
    if not isinstance(retry.when, datetime):
        return float(retry.when or 0)
    when = moment(retry.when)
    assert when is not None
    return (when - datetime.now(UTC)).total_seconds()


def _storable_result(task: Any, value: Any) -> Any:
    """Return a result as JSON has it, None where Celery would not store it either."""
    if task.ignore_result:
        return None
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        if task.app.conf.result_backend:
            return value  # the job fails, because its result cannot be stored
        logger.warning("Stored no result of %s, which is not JSON: %s", task.name, exc)
        return None
