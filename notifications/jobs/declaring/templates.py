"""Texts of policies that name arguments of their task: ``"Check report {report_id}"``."""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from notifications.compat import signature_of


def format_template(
    option: str,
    template: str,
    function: Callable[..., Any],
    takes_context: bool,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    **extra_values: Any,
) -> str:
    """Return a template with the arguments of a call. Raises ``ValueError`` if it names something else."""
    if not _names_in(option, template):
        return template.format()
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
