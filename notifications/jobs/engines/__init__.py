"""Engines: who runs the jobs of a backend.

Without the option ``engine`` in ``TASKS`` that is the built-in worker, which claims jobs from the database. An engine
is another system that only learns the ids of committed jobs. The row stays the truth: a process of the engine claims
it, runs it and records its outcome exactly as the built-in worker does.

interface      what an engine is: ``hand_over(jobs)``, ``revoke(ids)``, ``check()``
handover       sends the ids of committed jobs to their engines, and sends lost ones again
process        ``run(id)``: runs a job in a process of the engine
waiting        finds jobs that wait too long because no process of their engine takes them
celery/        Celery
backend        any other backend of Django's Tasks

The option ``engine`` is the dotted path of a module with a function ``create_engine(alias, name)``, which returns an
``Engine``. ``alias:NAME`` stands for the module ``backend``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from notifications.compat import task_backends

if TYPE_CHECKING:
    from notifications.jobs.engines.interface import Engine

__all__ = ["configured_engines", "engine_of", "label_of", "listen"]

#: The doorbell's function ``listen(callback)``, set when the app is ready: ``realtime`` is above ``jobs``.
listen: Callable[..., Any] | None = None


@cache
def engine_of(alias: str) -> Engine | None:
    """Return the engine that runs the jobs of a backend of ``TASKS``, None for the built-in worker.

    Raises ``ImproperlyConfigured`` for an engine that cannot be imported or set up.
    """
    name = task_backends.settings[alias].get("OPTIONS", {}).get("engine")
    if not name:
        return None
    if not isinstance(name, str):
        raise ImproperlyConfigured(
            f"The engine of TASKS[{alias!r}] is {name!r}. It must be a dotted path, or 'alias:' and the alias of "
            "another backend."
        )
    path = "notifications.jobs.engines.backend" if name.startswith("alias:") else name
    try:
        create_engine: Any = import_string(f"{path}.create_engine")
    except ImportError as exc:
        raise ImproperlyConfigured(
            f"The engine {name!r} of TASKS[{alias!r}] cannot be imported: {exc}"
        ) from exc
    engine: Engine = create_engine(alias, name.removeprefix("alias:"))
    return engine


def configured_engines() -> dict[str, Engine]:
    """Return the engines by the aliases of their backends. Raises ``ImproperlyConfigured`` like ``engine_of``."""
    found = {alias: engine_of(alias) for alias in task_backends.settings}
    return {alias: engine for alias, engine in found.items() if engine}


def label_of(alias: str) -> str:
    """Return what to call the engine of a backend, even if it cannot be set up or is not in ``TASKS`` any more."""
    try:
        engine = engine_of(alias)
    except (ImproperlyConfigured, KeyError):
        engine = None
    if engine:
        return engine.label
    return str(task_backends.settings.get(alias, {}).get("OPTIONS", {}).get("engine") or alias)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "TASKS":
        engine_of.cache_clear()


setting_changed.connect(_forget)
