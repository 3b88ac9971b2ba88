"""What a task's author decides about its jobs."""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from notifications import validators

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "_notifications_policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A job that is done, as a ``notify`` function of a policy sees it, before anything is stored."""

    id: Any
    title: str
    url: str
    state: str
    result: Any
    error: dict[str, str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How the jobs of a task are run and told. See ``notifications.api.policy``."""

    title: str = ""
    max_attempts: int = 3
    timeout: float = 300.0
    retry_on: type[Exception] | tuple[type[Exception], ...] = ()
    concurrency_key: str = ""
    concurrency: int = 1
    notify: bool | Callable[[Done], Mapping[str, Any] | None] = True

    def __post_init__(self) -> None:
        for name in ("max_attempts", "concurrency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}. It must be a whole number from 1.")
        if (
            isinstance(self.timeout, bool)
            or not isinstance(self.timeout, int | float)
            or not 0 < self.timeout < 1e8
        ):
            raise ValueError(f"timeout is {self.timeout!r}. It must be a number of seconds above 0.")
        if not isinstance(self.concurrency_key, str):
            raise TypeError('concurrency_key must be a string, which may name arguments: "report:{owner}".')
        kinds = self.retry_on if isinstance(self.retry_on, tuple | list) else (self.retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise TypeError(
                f"retry_on is {self.retry_on!r}. It must be a class of exceptions, or a tuple of some: (OSError,)."
            )
        object.__setattr__(self, "retry_on", tuple(kinds))
        if not isinstance(self.notify, bool) and not callable(self.notify):
            raise TypeError(
                "notify must be True, False or a function that takes the job and returns a dict or None."
            )


DEFAULT = Policy()


def policy(**options: Any) -> Callable[[F], F]:
    """See ``notifications.api.policy``."""
    told = Policy(**options)

    def attach(function: F) -> F:
        if not inspect.isfunction(function):
            raise TypeError(
                "@policy stands above @task. Write @task first, then @policy(...), then the function."
            )
        _refuse_unknown_names("title", told.title, function)
        _refuse_unknown_names("concurrency_key", told.concurrency_key, function, "owner")
        setattr(function, _ATTRIBUTE, told)
        return function

    return attach


def policy_of(function: Callable[..., Any]) -> Policy:
    """Return the policy of a task's function; the default one if it has none."""
    return getattr(function, _ATTRIBUTE, DEFAULT)


def job_title(
    function: Callable[..., Any], takes_context: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return the title of a job of this task: the policy's, with the arguments by name, else the function's name.

    It is shortened to what a title may have, because arguments are often what a user typed.
    """
    template = policy_of(function).title
    title = _fill("title", str(template), function, takes_context, args, kwargs) if template else ""
    if not title.strip():
        title = function.__name__.strip("_").replace("_", " ").capitalize() or "Job"
    return validators.shortened(title, validators.TITLE)


def job_concurrency_key(
    function: Callable[..., Any],
    takes_context: bool,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    owner: Any,
) -> str:
    """Return the concurrency key of a job of this task, with the arguments and its owner's key by name; maybe empty.

    One that is too long ends with a hash of the whole, so that different keys stay different.
    """
    template = policy_of(function).concurrency_key
    owner = "" if owner is None else str(owner)
    key = template and _fill("concurrency_key", template, function, takes_context, args, kwargs, owner=owner)
    if len(key) <= validators.KEY:
        return key
    digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
    return validators.shortened(key, validators.KEY - len(digest)) + digest


def _fill(
    what: str,
    template: str,
    function: Callable[..., Any],
    takes_context: bool,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    **more: Any,
) -> str:
    if not _names(what, template):
        return template.format()
    signature = inspect.signature(function)
    bound = signature.bind(*([None] if takes_context else []), *args, **kwargs)
    bound.apply_defaults()
    values = {**more, **bound.arguments}
    if extra := _extra_keywords(signature):
        values |= bound.arguments[extra]
    try:
        return template.format(**values)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as exc:
        raise ValueError(
            f"The {what} {template!r} of task {function.__name__} cannot be made from its arguments ({exc!r}). "
            f"It may name: {', '.join(values)}."
        ) from exc


def _refuse_unknown_names(what: str, template: Any, function: Callable[..., Any], *more: str) -> None:
    """Raise ValueError for a template that no arguments of this function can fill."""
    if not isinstance(template, str):
        return  # a lazy translation, which cannot be read while modules are imported
    signature = inspect.signature(function)
    known = (*more, *signature.parameters)
    names = _names(what, template)
    if _extra_keywords(signature):
        names = {name for name in names if not name.isidentifier()}
    if unknown := sorted(names.difference(known)):
        raise ValueError(
            f"The {what} {template!r} of task {function.__name__} names {unknown[0]!r}. "
            f"It may name: {', '.join(known) or 'nothing, because the task takes no arguments'}."
        )


def _names(what: str, template: str) -> set[str]:
    """Return the arguments that a template names, also inside a format specification."""
    found: set[str] = set()
    try:
        for _, name, specification, _ in string.Formatter().parse(template):
            if name is not None:
                found.add(name.partition(".")[0].partition("[")[0])
                found |= _names(what, specification or "")
    except ValueError as exc:
        raise ValueError(
            f"The {what} {template!r} is no format string: {exc}. Write a brace that stands for itself twice."
        ) from exc
    return found


def _extra_keywords(signature: inspect.Signature) -> str:
    """Return the name under which a function takes any other keyword; "" if it takes none."""
    kind = inspect.Parameter.VAR_KEYWORD
    return next((name for name, one in signature.parameters.items() if one.kind is kind), "")
