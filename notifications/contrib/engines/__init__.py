"""Who runs the jobs of a backend in place of the built-in worker. ``apps.py`` says what belongs to it.

The option ``engine`` is the dotted path of a module with a function ``create_engine(alias, name)``, which returns an
``Engine``. ``alias:NAME`` stands for the module ``backend``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.checks import ERROR
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from notifications.conf import cached_until_changed
from notifications.jobs import task_backends

if TYPE_CHECKING:
    from notifications.contrib.engines.interface import Engine

__all__ = [
    "configured_engines",
    "engine_of",
    "has_backend_engine",
    "label_of",
    "usable_engine",
]

#: What stands before the alias of another backend in the option ``engine``.
BACKEND_PREFIX = "alias:"


def has_backend_engine() -> bool:
    """Return whether the engine of a backend of ``TASKS`` is another backend."""
    try:
        options = [backend.get("OPTIONS", {}) for backend in task_backends.settings.values()]
        return any(str(option.get("engine", "")).startswith(BACKEND_PREFIX) for option in options)
    except AttributeError:  # Part of TASKS is no dict, which the system checks and doctor name.
        return False


@cached_until_changed("TASKS")
def engine_of(alias: str) -> Engine | None:
    """Return the engine that runs the jobs of a backend of ``TASKS``, None for the built-in worker.

    Raises ``ImproperlyConfigured`` for an engine that cannot be imported or set up.
    """
    name = task_backends.settings.get(alias, {}).get("OPTIONS", {}).get("engine")
    if not name:
        return None
    if not isinstance(name, str):
        raise ImproperlyConfigured(
            f"The engine of TASKS[{alias!r}] is {name!r}. It must be a dotted path, or 'alias:' and the alias of "
            "another backend."
        )
    path = "notifications.contrib.engines.backend" if name.startswith(BACKEND_PREFIX) else name
    try:
        create_engine = import_string(f"{path}.create_engine")
        engine: Engine = create_engine(alias, name.removeprefix(BACKEND_PREFIX))
    except ImproperlyConfigured:
        raise
    except Exception as exc:
        what = "imported" if isinstance(exc, ImportError) else "set up"
        raise ImproperlyConfigured(
            f"The engine {name!r} of TASKS[{alias!r}] cannot be {what}: {exc!r}"
        ) from exc
    return engine


@cached_until_changed("TASKS")
def usable_engine(alias: str) -> Engine:
    """Return the engine of a backend that has one, if its checks find no error.

    Raises ``ImproperlyConfigured`` if no job could ever run, so that it is not enqueued.
    """
    engine = engine_of(alias)
    assert engine is not None
    errors = [message for message in engine.check() if message.level >= ERROR]
    if errors:
        raise ImproperlyConfigured(" ".join(filter(None, (errors[0].msg, errors[0].hint))))
    return engine


def configured_engines() -> dict[str, Engine]:
    """Return the engines by the aliases of their backends. Raises ``ImproperlyConfigured`` like ``engine_of``."""
    return {alias: engine for alias in task_backends.settings if (engine := engine_of(alias))}


def label_of(alias: str) -> str:
    """Return what to call the engine of a backend, even if it cannot be set up or is not in ``TASKS`` any more."""
    try:
        engine = engine_of(alias)
    except (ImproperlyConfigured, KeyError):
        engine = None
    if engine:
        return engine.label
    return str(task_backends.settings.get(alias, {}).get("OPTIONS", {}).get("engine") or alias)
