"""What type checkers know of ``notifications.api.task`` and of what ``enqueue`` returns.

There is no such module at run time: the decorator, the task and its results are Django's own. ``using`` takes more
options because this app's backend has its own task class.
"""

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from django.utils.functional import Promise

from notifications.compat import Task, TaskContext, TaskResult
from notifications.jobs.declaring.policies import NotifyOption

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

class HasReturnValue(Protocol[R_co]):
    """The result of a task with this return type, of this app's ``task`` or of Django's."""

    @property
    def return_value(self) -> R_co: ...

class JobResult(TaskResult, Generic[R]):
    @property
    def return_value(self) -> R: ...
    id: str

class TypedTask(Task, Generic[P, R]):
    def using(
        self,
        *,
        owner: Any = None,
        title: str | Promise | None = None,
        url: str | None = None,
        key: str | None = None,
        queued_key: str | None = None,
        concurrency_key: str | None = None,
        expires: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: float | timedelta | datetime | None = None,
        backend: str | None = None,
    ) -> TypedTask[P, R]: ...
    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobResult[R]: ...
    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobResult[R]: ...
    def call(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def get_result(self, result_id: str) -> JobResult[R]: ...
    async def aget_result(self, result_id: str) -> JobResult[R]: ...

class PolicyOptions(TypedDict, total=False):
    """The options of ``policy()``."""

    title: str | Promise
    max_attempts: int
    timeout: float | None
    expires: float | timedelta | None
    retry_on: type[Exception] | tuple[type[Exception], ...]
    backoff: float
    concurrency_key: str
    concurrency: int
    share: str
    notify: NotifyOption
    redact: tuple[str, ...]

class TaskDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> TypedTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TypedTask[P, R]: ...

class ContextTaskDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> TypedTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], R], /) -> TypedTask[P, R]: ...

@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> TypedTask[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> TypedTask[P, R]: ...
@overload
def task(
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: Literal[False] = False,
    **options: Unpack[PolicyOptions],
) -> TaskDecorator: ...
@overload
def task(
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: Literal[True],
    **options: Unpack[PolicyOptions],
) -> ContextTaskDecorator: ...
