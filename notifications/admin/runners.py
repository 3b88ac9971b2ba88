"""On what jobs run, as the admin shows it: the built-in worker, an engine, or what an extension names."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.compat import task_backends
from notifications.extension import hooks
from notifications.jobs.claiming.executors import ENGINE_EXECUTORS, WORKER_EXECUTORS
from notifications.jobs.declaring.tasks import has_engine
from notifications.models import Job


def has_runners() -> bool:
    """Return whether jobs run on anything but the built-in worker, so that pages say on what."""
    return any(map(has_engine, task_backends.settings)) or bool(hooks.runners)


class RunnerFilter(admin.SimpleListFilter):
    """Filters jobs by the engine that runs them."""

    title = _("engine")
    parameter_name = "runs_on"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        if not has_runners():
            return []
        aliases = list(filter(has_engine, task_backends.settings))
        labels = [hooks.dispatch.label_of(alias) for alias in aliases]
        engines = [
            (f"engine:{alias}", label if labels.count(label) == 1 else f"{label} ({alias})")
            for alias, label in zip(aliases, labels, strict=True)
        ]
        return [("builtin", _("Built-in worker")), *engines, *hooks.runners.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        value = self.value() or ""
        if value == "builtin":
            return queryset.filter(executor__in=WORKER_EXECUTORS)
        if value in hooks.runners:
            return queryset.filter(executor=value)
        if value.startswith("engine:"):
            return queryset.filter(executor__in=ENGINE_EXECUTORS, backend=value.removeprefix("engine:"))
        return queryset
