"""The decorator that declares a schedule at its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

F = TypeVar("F")

#: The attribute of a function with the names of the schedules that are declared at it.
_NAMES = "_notifications_schedules"


def every(
    timing: str | timedelta,
    *,
    name: str = "",
    zone: str = "",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Callable[[F], F]:
    """Declare a schedule of a task, as an entry of ``NOTIFICATIONS["SCHEDULES"]`` does, which takes its place.

    ::

        @task
        @every("0 6 * * *", zone="Europe/Berlin")
        def report(): ...

    The module ``tasks`` of each installed app is imported, so that it is found there; others the project imports.

    ``timing``
        A cron expression of five fields, or a ``timedelta``.
    ``name``
        By default the dotted path of the task. A second schedule of one task needs a name.
    ``zone``
        The time zone of a cron expression, by default ``TIME_ZONE``.
    ``options``
        ``owner``, ``group``, ``queue``, ``overlap`` and ``grace`` as in ``SCHEDULES``.

    What is wrong with it is a system check. Raises ``ValueError`` for a second schedule with the same name.
    """

    def declare(function: F) -> F:
        from notifications.contrib.schedules import (
            declarations,
        )  # it needs the package that the extra installs

        of_task: Any = getattr(function, "func", function)  # above or below @task
        path = f"{of_task.__module__}.{of_task.__qualname__}"
        names = of_task.__dict__.setdefault(_NAMES, set())
        if (name or path) in names:
            raise ValueError(
                f'{path} has two schedules {name or path!r}. Give one of them a name: name="weekly".'
            )
        names.add(name or path)
        found: dict[str, Any] = {
            "task": path,
            "cron" if isinstance(timing, str) else "every": timing,
            **options,
        }
        more = {"timezone": zone, "args": list(args), "kwargs": dict(kwargs or {})}
        declarations.declare(name or path, {**found, **{key: value for key, value in more.items() if value}})
        return function

    return declare
