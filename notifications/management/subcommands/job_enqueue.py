"""``manage.py notifications jobs enqueue``: enqueue a job from a terminal, a script or cron."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from notifications.compat import InvalidTask
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs
from notifications.jobs.declaring.tasks import stores_jobs
from notifications.jobs.results import find_project_task
from notifications.management.management_command import ManagementCommand
from notifications.management.subcommands.job_verbs import run_time


class EnqueueCommand(ManagementCommand):
    help = "enqueue a job of a task, as from cron"
    examples = ("enqueue mysite.tasks.report --args '[2026]' --owner ada --key report-2026",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="the dotted path of the task")
        parser.add_argument(
            "--args", dest="task_args", type=json_list, default=[], metavar="JSON", help="a list"
        )
        parser.add_argument(
            "--kwargs", dest="task_kwargs", type=json_dict, default={}, metavar="JSON", help="an object"
        )
        parser.add_argument("--owner", metavar="USERNAME", help="who may see it and is notified of its end")
        parser.add_argument("--queue", metavar="NAME", help="in place of that of the task")
        parser.add_argument("--at", type=run_time, metavar="TIME", help="run it then: 2026-12-01T08:00")
        parser.add_argument(
            "--key", help="the same key within 24 hours stands for the same job, so that it is enqueued once"
        )
        parser.add_argument("--queued-key", metavar="KEY", help="the same, until the job begins")

    def handle(
        self,
        *args: Any,
        task: str,
        task_args: list[Any],
        task_kwargs: dict[str, Any],
        owner: str | None,
        queue: str | None,
        at: datetime | None,
        key: str | None,
        queued_key: str | None,
        **options: Any,
    ) -> None:
        try:
            found = find_project_task(task)
        except ImportError as exc:
            raise CommandError(f"Nothing was enqueued: {exc}") from exc
        if not stores_jobs(found.backend):
            raise CommandError(
                f"Nothing was enqueued: the backend {found.backend!r} of the task is not JobBackend."
            )
        try:
            changes = {"queue_name": queue, "run_after": at}
            changed = found.using(
                owner=None if owner is None else self.user_key_of(owner),
                key=key,
                queued_key=queued_key,
                **{name: value for name, value in changes.items() if value is not None},
            )
            result = changed.enqueue(*task_args, **task_kwargs)
        except (
            TypeError,
            ValueError,
            InvalidTask,
            ImproperlyConfigured,
            TooManyJobs,
            IdempotencyKeyConflict,
        ) as exc:
            raise CommandError(f"Nothing was enqueued: {exc}") from exc
        self.report(options, result.id, id=result.id)


def json_list(text: str) -> list[Any]:
    value = _parse(text)
    if not isinstance(value, list):
        raise ArgumentTypeError(f"{text[:100]!r} is not a list. Write '[1, \"two\"]'.")
    return value


def json_dict(text: str) -> dict[str, Any]:
    value = _parse(text)
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"{text[:100]!r} is not an object. Write '{{\"name\": 1}}'.")
    return value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ArgumentTypeError(f"{text[:100]!r} is not JSON: {exc}") from exc
