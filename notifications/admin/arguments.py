"""The arguments of a job as the admin shows them: their values without secrets, or their types only."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.utils.translation import gettext as _

from notifications import serializers
from notifications.compat import signature_of
from notifications.jobs.redaction import describe_value
from notifications.jobs.results import find_task, policy_at
from notifications.models import Job


def describe_arguments(job: Job, *, with_values: bool) -> str:
    """Return the arguments of a job, one on each line.

    ``with_values``
        Shows their values, but those of secrets; else their types, because any value may be a secret.
    """
    try:
        args, kwargs = json.loads(job.args), serializers.decode_object(job.kwargs)
        if not with_values:
            types = [type(value).__name__ for value in args]
            return (
                f"({', '.join(types + [f'{name}={type(value).__name__}' for name, value in kwargs.items()])})"
            )
        redacted = frozenset(policy_at(job.task_path).redact)
        named = [*zip(_parameter_names(job, len(args)), args, strict=True), *kwargs.items()]
        return "\n".join(f"{name} = {describe_value(name, value, redacted)}" for name, value in named) or "-"
    except (ValueError, TypeError, RecursionError):
        return _("Damaged: not JSON")


def _parameter_names(job: Job, count: int) -> Sequence[str]:
    """Return the names of positional arguments. One without a known name is hidden: see ``describe_value``."""
    try:
        task = find_task(job.task_path)
        parameters = list(signature_of(task.func).parameters.values())[int(task.takes_context) :]
    except (ImportError, ValueError, TypeError):
        parameters = []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [parameter.name] * (count - len(names))
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*names, *[""] * count][:count]
