"""The arguments of a job as the admin shows them: their values without secrets, or their types only."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _

from notifications import serializers
from notifications.compat import signature_of
from notifications.jobs.results import find_task, policy_at
from notifications.models import Job

#: Words of the names whose values are never shown.
SECRET_WORDS = frozenset(
    (
        *("password", "passwd", "pwd", "passphrase", "pin", "otp", "secret", "secrets", "token", "tokens"),
        *("key", "keys", "apikey", "credential", "credentials", "auth", "authorization", "cookie", "cookies"),
        *("session", "sessionid", "signature", "csrf", "jwt", "bearer", "accesstoken", "privatekey"),
    )
)
#: Characters of one value, and nested values, that are shown.
MAX_VALUE_CHARS, MAX_DEPTH = 500, 20
HIDDEN = "•••"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


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
        return "\n".join(f"{name} = {_describe(name, value, redacted)}" for name, value in named) or "-"
    except (ValueError, TypeError, RecursionError):
        return _("Damaged: not JSON")


def is_secret(name: str, redacted: frozenset[str] = frozenset()) -> bool:
    """Return whether the value of an argument or key with this name is hidden."""
    if name in redacted or name.lower().replace("_", "").replace("-", "") in SECRET_WORDS:
        return True
    return any(word.lower() in SECRET_WORDS for word in _WORD.findall(name))


def _parameter_names(job: Job, count: int) -> Sequence[str]:
    """Return the names of positional arguments. One without a known name is shown as a secret: see ``_describe``."""
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


def _describe(name: str, value: Any, redacted: frozenset[str]) -> str:
    if not name:  # The task is unknown here, so that nothing says what the value is.
        return type(value).__name__
    text = json.dumps(_redact(name, value, redacted, MAX_DEPTH), ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def _redact(name: str, value: Any, redacted: frozenset[str], depth: int) -> Any:
    if is_secret(name, redacted) or not depth:
        return HIDDEN
    if isinstance(value, dict):
        return {key: _redact(key, inner, redacted, depth - 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redact("", inner, redacted, depth - 1) for inner in value]
    return value
