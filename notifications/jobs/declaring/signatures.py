"""Whether the arguments of a job fit the signature of its task."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from notifications.compat import signature_of
from notifications.jobs.redaction import is_secret

#: Kinds of parameters whose arguments are given by their places.
PLACES = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


class WrongArguments(TypeError):
    """The arguments do not fit the signature of the task."""


def bind_arguments(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise ``WrongArguments``, which names the task and its signature, if it cannot be called with the arguments.

    ``args`` are without the context of a task that takes one.
    """
    signature, counts = _own_signature(task.func, task.takes_context)
    if not kwargs and len(args) in counts:  # a tenth of the time of bind()
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise WrongArguments(
            f"{task.module_path}{signature} cannot be called with these arguments: {exc}."
        ) from exc


def called_signature(
    task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[inspect.Signature, bool]:
    """Return the signature that ``enqueue()`` binds arguments to, and whether it is that of a function below a wrapper.

    A wrapper that takes only ``*args, **kwargs`` names no parameters: if the arguments fit the function below, that
    function's are returned. If they do not, the wrapper adds arguments or takes some away.
    ``args`` are without the context.
    """
    takes_context = task.takes_context
    signature, _ = _own_signature(task.func, takes_context)
    if not takes_anything(signature):
        return signature, False

    def is_named(function: Callable[..., Any]) -> bool:
        return not takes_anything(_signature(function, takes_context, follow_wrapped=False))

    below = _signature(inspect.unwrap(task.func, stop=is_named), takes_context, follow_wrapped=False)
    try:
        below.bind(*args, **kwargs)
    except TypeError:
        return signature, False
    return below, True


def hides_below(task: Any, parameters: Sequence[inspect.Parameter], redacted: frozenset[str]) -> bool:
    """Return whether arguments without a name of their own may be secrets by the names of the function below a wrapper.

    Which value that function gets under which name is not known. ``parameters`` are those of the wrapper.
    """
    by_place = {each.name for each in parameters if each.kind in PLACES}
    below = _signature(task.func, task.takes_context).parameters.values()
    return any(
        is_secret(each.name, redacted) for each in below if each.kind in PLACES and each.name not in by_place
    )


def explains(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], exc: BaseException) -> bool:
    """Return whether a task raised ``exc`` because its arguments do not fit, before any code of it ran.

    ``args`` are without the context. A decorator may pass other arguments on, so the signature alone does not decide.
    """
    if not isinstance(exc, TypeError):
        return False
    function = inspect.unwrap(task.func)
    frame = exc.__traceback__
    while frame:
        if frame.tb_frame.f_code is function.__code__:
            return False
        frame = frame.tb_next
    try:
        _signature(function, task.takes_context).bind(*args, **kwargs)
    except TypeError:
        return True
    return False


@lru_cache(maxsize=1000)
def _own_signature(function: Callable[..., Any], takes_context: bool) -> tuple[inspect.Signature, range]:
    """Return what a task can be called with, and how many arguments it takes if all of them are positional.

    Of a decorated function that is what the decorator's wrapper takes.

    A wrapper may add arguments or take some away, but for those of ``contextlib``, as of ``transaction.atomic``.
    """
    while function.__globals__ is vars(contextlib):  # type: ignore[attr-defined]
        function = function.__wrapped__  # type: ignore[attr-defined]
    signature = _signature(function, takes_context, follow_wrapped=False)
    parameters = signature.parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [
        p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    is_simple = all(p.kind is not p.KEYWORD_ONLY for p in required)
    return signature, range(len(required), len(positional) + 1) if is_simple else range(0)


def takes_anything(signature: inspect.Signature) -> bool:
    """Return whether it is ``*args, **kwargs``, which names no argument."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def _signature(function: Callable[..., Any], takes_context: bool, **options: bool) -> inspect.Signature:
    signature = signature_of(function, **options)
    parameters = list(signature.parameters.values())
    if takes_context and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        del parameters[0]
    return signature.replace(parameters=parameters)
