"""System checks of engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import WARNING, CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from notifications.contrib.engines import engine_of
from notifications.jobs import Policy, aliases_with_engines
from notifications.jobs.backend import find_job_backends

HINT = (
    "OPTIONS['engine'] is 'notifications.contrib.celery', 'alias:' and the alias of another backend, or the dotted "
    "path of a module with create_engine()."
)


@register("notifications")
def check_configuration(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E007: the engine of a backend cannot be set up. What else an engine finds wrong."""
    return [message for message in _check_engines(find_job_backends()) if message.level >= WARNING]


@register("notifications", deploy=True)
def check_engines(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I004: what the engine of a backend cannot do."""
    return [message for message in _check_engines(aliases_with_engines()) if message.level < WARNING]


def _check_engines(aliases: Iterable[str]) -> Iterator[CheckMessage]:
    for alias in aliases:
        try:
            engine = engine_of(alias)
            yield from engine.check() if engine else ()
        except ImproperlyConfigured as exc:
            yield Error(str(exc), hint=HINT, id="notifications.E007")


def shortest_time_limit() -> float:
    """Return after how many seconds a message may be ended at the soonest: a slot and its last job, by default."""
    # Imported here, because a check may be imported before the models.
    from notifications.contrib.engines.worker import MAX_SLOT_SECONDS
    from notifications.worker import DEADLINE_MARGIN_SECONDS

    return MAX_SLOT_SECONDS + (Policy().timeout or 0) + DEADLINE_MARGIN_SECONDS
