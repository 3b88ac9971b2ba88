"""Celery: observes the tasks of a project's Celery workers, and runs jobs on them.

The list of the modules is in ``__init__.py``, which the project's ``celery.py`` imports before Django is ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.contrib.celery import declarations
from notifications.extension import Extension, JobSection, RecordedTransaction, Setting, import_later

if TYPE_CHECKING:
    from notifications.jobs import Policy
    from notifications.models import Job


def _is_celery(value: dict[str, Any]) -> bool:
    tasks = value.get("tasks", {})
    return (
        not set(value) - {"tasks"}
        and isinstance(tasks, dict)
        and all(isinstance(name, str) for name in tasks)
    )


class SilenceSection(JobSection):
    """Says of a queued job that its message may be lost."""

    name = "silence"
    is_in_pane = False

    page_context = import_later("silence.describe_silence")


class ObservedTasks(Extension):
    """Makes jobs of tasks that workers of Celery run."""

    name = "notifications.contrib.celery"
    label = "notifications_celery"
    verbose_name = _("Celery")
    settings: ClassVar[dict[str, Setting]] = {
        "CELERY": Setting({}, is_valid=_is_celery, rule="{'tasks': {name of a task: options}}")
    }
    runners: ClassVar[dict[str, Any]] = {"observed": _("Celery (observed)")}
    job_sections = (SilenceSection(),)

    def policy_at(self, task_path: str) -> Policy | None:
        observation = declarations.find(task_path)
        return observation.policy if observation else None

    def on_change(self, change: str, rows: Sequence[Any], tx: RecordedTransaction) -> tuple[()]:
        """Have the tasks of cancelled jobs revoked, also those that run: they do not notice it otherwise."""
        if change == "cancelled":
            tx.kept[self.label] = [job for job in rows if job.executor == job.Executor.OBSERVED]
        return ()

    def after_commit(self, kept: Sequence[Job]) -> None:
        if kept:
            from notifications.contrib.celery.results import revoke_tasks

            revoke_tasks(kept)
