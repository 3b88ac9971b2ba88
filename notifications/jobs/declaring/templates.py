"""Texts that name arguments of a task: titles, keys, and shares.

``"Check report {report_id}"`` is one of a policy. By a key of another one an extension limits how often jobs start. It
is stored with the job, and the code that claims the job decides whether its starts have a limit: those of a task
without such a template have none.
"""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from notifications import validators
from notifications.compat import signature_of

#: The attribute of functions with a limit: what errors call it, and the template of its key.
_LIMIT_KEY = "_notifications_limit_key"


class TaskCall(NamedTuple):
    """A call of the function of a task. ``owner`` is the key of that of its job."""

    function: Callable[..., Any]
    takes_context: bool
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    owner: Any = None


def format_key(option: str, template: str, call: TaskCall) -> str:
    """Return a key or share, whose template may also name the ``owner``, as it is stored; "" without a template."""
    if not template:
        return ""
    owner = "" if call.owner is None else str(call.owner)
    return storable_key(format_template(option, template, call, owner=owner))


def format_template(option: str, template: str, call: TaskCall, **extra_values: Any) -> str:
    """Return a template with the arguments of a call. Raises ``ValueError`` if it names something else."""
    if not _names_in(option, template):
        return template.format()
    function, takes_context, args, kwargs, _ = call
    signature = signature_of(function)
    bound = signature.bind(*([None] if takes_context else []), *args, **kwargs)
    bound.apply_defaults()
    values = {**extra_values, **bound.arguments}
    if keywords := _keywords_parameter(signature):
        values |= bound.arguments[keywords]
    try:
        return template.format(**values)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as exc:
        raise ValueError(
            f"The {option} {template!r} of task {function.__name__} cannot be formatted with its arguments "
            f"({exc!r}). It may name: {', '.join(values)}."
        ) from exc


def refuse_unknown_names(option: str, template: Any, function: Callable[..., Any], *extra_names: str) -> None:
    """Raise ValueError if the template names something that is no argument of the function."""
    if not isinstance(template, str):
        return  # A lazy translation cannot be evaluated while modules are imported.
    signature = signature_of(function)
    known = (*extra_names, *signature.parameters)
    names = _names_in(option, template)
    if _keywords_parameter(signature):
        names = {name for name in names if not name.isidentifier()}
    if unknown := sorted(names.difference(known)):
        raise ValueError(
            f"The {option} {template!r} of task {function.__name__} names {unknown[0]!r}. "
            f"It may name: {', '.join(known) or 'nothing, because the task takes no arguments'}."
        )


def _names_in(option: str, template: str) -> set[str]:
    names: set[str] = set()
    try:
        for _, name, specification, _ in string.Formatter().parse(template):
            if name is not None:
                names.add(name.partition(".")[0].partition("[")[0])
                names |= _names_in(option, specification or "")
    except ValueError as exc:
        raise ValueError(
            f"The {option} {template!r} is not a valid format string: {exc}. Write literal braces twice."
        ) from exc
    return names


def _keywords_parameter(signature: inspect.Signature) -> str:
    kind = inspect.Parameter.VAR_KEYWORD
    return next((name for name, parameter in signature.parameters.items() if parameter.kind is kind), "")


def storable_key(key: str) -> str:
    """Return a concurrency key as it is stored.

    One that is too long is cut and ends with a hash of the whole, so that different keys stay different.
    """
    if len(key) <= validators.MAX_KEY_LENGTH:
        return key
    digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
    return validators.shortened(key, validators.MAX_KEY_LENGTH - len(digest)) + digest


def limit_starts(function: Callable[..., Any], template: str, *, option: str) -> None:
    """Have an extension limit by a key how often jobs of the task with this function start.

    ``template``
        The key. It may name arguments of the task, and ``{owner}``: ``"partner:{account}"``.
    ``option``
        What errors call it: ``"rate"``.

    Call it when the module of the task is imported. Raises ``ValueError`` if ``template`` names something else, and
    ``TypeError`` if the function has a key already.
    """
    refuse_unknown_names(option, template, function, "owner")
    if hasattr(function, _LIMIT_KEY):
        raise TypeError(f"The task {function.__name__} has two limits of its starts. Leave one of them.")
    setattr(function, _LIMIT_KEY, (option, template))


def has_limit_key(function: Callable[..., Any]) -> bool:
    """Return whether the jobs of the task with this function have a key."""
    return hasattr(function, _LIMIT_KEY)


def limit_key(call: TaskCall) -> str:
    """Return the key by which the starts of a job are limited, "" without one.

    If the template cannot be formatted with the arguments, it is what stands before its colon.
    """
    option, template = getattr(call.function, _LIMIT_KEY, ("", ""))
    try:
        return format_key(option, template, call)
    except (TypeError, ValueError):
        return str(template.partition(":")[0])
