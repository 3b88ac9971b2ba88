"""Policies for tasks of other packages: of extensions, and ``OPTIONS["policies"]`` of a backend in ``TASKS``.

The keys are paths of tasks, which may have the wildcards ``*``, ``?`` and ``[…]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from notifications.compat import task_backends
from notifications.db.imports import CannotImport, import_path
from notifications.extension import hooks

EXAMPLE = '{"modelsearch.tasks.*": {"retry_on": "django.db.IntegrityError", "max_attempts": 5}}'


def options_for(path: str) -> Iterator[dict[str, Any]]:
    """Yield the options for a task: those of extensions, then those of the settings, each in their order.

    Raises TypeError for options that are not a dict, and for names that cannot be imported.
    """
    yield from map(imported, declared_for(path))


def declared_for(path: str) -> Iterator[Any]:
    """Yield the same as they are declared, unchecked."""
    settings = [params.get("OPTIONS", {}).get("policies", {}) for params in task_backends.settings.values()]
    for patterns in (hooks.policies, *settings):
        for pattern, options in patterns.items() if isinstance(patterns, dict) else ():
            if isinstance(pattern, str) and fnmatchcase(path, pattern):
                yield options


def imported(options: Any) -> dict[str, Any]:
    """Return options with what ``retry_on`` and ``notify`` name by dotted paths. Settings cannot import all modules.

    Raises TypeError.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"The options are {options!r}. Write a dict of options of @policy.")
    found = dict(options)
    for name in {"retry_on", "notify"}.intersection(found):
        value = found[name]
        is_several = name == "retry_on" and isinstance(value, tuple | list)
        found[name] = tuple(map(_imported, value)) if is_several else _imported(value)
    return found


def _imported(value: Any) -> Any:
    try:
        return import_path(value) if isinstance(value, str) else value
    except CannotImport as exc:
        raise TypeError(f"{value!r} cannot be imported: {exc.reason}") from exc
