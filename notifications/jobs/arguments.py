"""Arguments and results of jobs as admin and commands show them, and jobs found by them: values without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.utils.translation import gettext as _

from notifications import serializers
from notifications.compat import signature_of
from notifications.db.transactions import database
from notifications.jobs.declaring.signatures import PLACES, called_signature, hides_below, takes_anything
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
        lines = [
            f"{name or place} = {describe_value(shown, value, declared.redacted)}"
            for place, (name, shown, value) in enumerate(_positional_values(args, kwargs, declared), 1)
        ]
        lines += [
            f"{name} = {describe_value(name, value, declared.redacted)}" for name, value in kwargs.items()
        ]
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
        kwargs = serializers.decode_object(stored_kwargs)
        args = _positional_values(json.loads(stored_args), kwargs, declared)
        values = [redact(shown, value, declared.redacted) for _, shown, value in args if shown]
        values += [{name: redact(name, value, declared.redacted)} for name, value in kwargs.items()]
        return "\n".join(map(_encode_value, values)).casefold()
    except (ValueError, TypeError, RecursionError):
        return ""


def _encode(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)[1:-1]


class _Declaration(NamedTuple):
    """A task, None if it does not exist, and the names whose values it hides."""

    task: Any
    redacted: frozenset[str]


def _declaration_at(path: str) -> _Declaration:
    try:
        task = find_task(path)
        signature_of(task.func)
    except (ImportError, ValueError, TypeError):
        task = None
    return _Declaration(task, frozenset(policy_at(path).redact))


def _positional_values(
    args: Sequence[Any], kwargs: Mapping[str, Any], declared: _Declaration
) -> list[tuple[str, str, Any]]:
    """Return of each positional argument its name, the name by which secrets are known in it, and its value.

    ``""`` where there is none. Of a decorated task the names are those of what takes the arguments: its wrapper, or the
    function below one that passes them on. A wrapper that adds arguments, or takes some away, gives them no names.
    """
    if declared.task is None:
        return [("", "", value) for value in args]
    signature, _ = called_signature(declared.task, args, kwargs)
    parameters = list(signature.parameters.values())
    named: list[tuple[str, str]] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            name = "" if takes_anything(signature) else parameter.name
            named += [(name, parameter.name)] * (len(args) - len(named))
        elif parameter.kind in PLACES:
            named.append((parameter.name, parameter.name))
    if hides_below(declared.task, parameters, declared.redacted):
        named = [(name, "") for name, _ in named]
    named += [("", "")] * (len(args) - len(named))
    return [(*names, value) for names, value in zip(named, args, strict=False)]
