"""Arguments and results of jobs as admin and commands show them, and jobs found by them: values without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from inspect import Parameter
from typing import Any, NamedTuple
from uuid import UUID

from django.utils.translation import gettext as _

from notifications import serializers
from notifications.compat import signature_of
from notifications.db.transactions import database
from notifications.jobs.redaction import describe_value, redact
from notifications.jobs.results import find_task, policy_at
from notifications.models import Job

#: Encodes values as they are stored. json.dumps() would make an encoder for each of them.
_encode_value = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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
        declared = _declaration_at(job.task_path)
        lines = (
            f"{name} = {describe_value(name, value, declared.redacted)}"
            for name, value in (*_positional_values(job.args, declared), *kwargs.items())
        )
        return "\n".join(lines) or "-"
    except (ValueError, TypeError, RecursionError):
        return _("Damaged: not JSON")


def describe_result(job: Job, max_characters: int) -> str:
    """Return the result of a job as JSON, without secrets. ``max_characters`` of it are shown."""
    try:
        value = redact("", json.loads(job.result or "null"), frozenset(policy_at(job.task_path).redact))
    except (ValueError, RecursionError):
        return _("Damaged: not JSON")
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= max_characters else f"{text[:max_characters]}…"


def find_jobs(ids: Iterable[UUID], words: Sequence[str]) -> set[UUID]:
    """Return those of these jobs that have all words in values that are shown, or in names of keyword arguments.

    A query cannot decide that: which values are secrets depends on their names and on the policy of the task. Nor does
    one select the jobs that may match, because the time until the page is there would reveal what secrets contain.
    """
    jobs = Job.objects.using(database()).filter(pk__in=list(ids))
    encoded = [_encode(word).casefold() for word in words]
    # Of a task that does not exist, each look-up searches for its module.
    declaration_at = cache(_declaration_at)
    found = set()
    for id, path, args, kwargs in jobs.values_list("pk", "task_path", "args", "kwargs"):
        text = _shown_text(args, kwargs, declaration_at(path))
        if all(word in text for word in encoded):
            found.add(id)
    return found


def _shown_text(stored_args: str, stored_kwargs: str, declared: _Declaration) -> str:
    """Return the values that are shown as they are stored, one on each line, without regard to case."""
    try:
        args, kwargs = _positional_values(stored_args, declared), serializers.decode_object(stored_kwargs)
        values = [redact(name, value, declared.redacted) for name, value in args if name]
        values += [{name: redact(name, value, declared.redacted)} for name, value in kwargs.items()]
        return "\n".join(map(_encode_value, values)).casefold()
    except (ValueError, TypeError, RecursionError):
        return ""


def _encode(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)[1:-1]


class _Declaration(NamedTuple):
    """What a task declares: names whose values are hidden, and its parameters, none if the task does not exist."""

    redacted: frozenset[str]
    parameters: Sequence[Parameter]


def _declaration_at(path: str) -> _Declaration:
    try:
        task = find_task(path)
        parameters = list(signature_of(task.func).parameters.values())[int(task.takes_context) :]
    except (ImportError, ValueError, TypeError):
        parameters = []
    return _Declaration(frozenset(policy_at(path).redact), parameters)


def _positional_values(stored: str, declared: _Declaration) -> list[tuple[str, Any]]:
    """Return names and values of positional arguments. One without a known name is hidden: see ``describe_value``."""
    args = json.loads(stored)
    names: list[str] = []
    for parameter in declared.parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [parameter.name] * (len(args) - len(names))
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*zip([*names, *[""] * len(args)], args, strict=False)]
