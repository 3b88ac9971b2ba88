"""``jobs retry``, ``cancel`` and ``reschedule`` with filters in place of ids, and ``jobs stats``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError

from notifications import times
from notifications.contrib.operations import bulk_changes as changing
from notifications.contrib.operations.matching import JobFilter
from notifications.contrib.operations.statistics import Figures, Histogram, read_figures
from notifications.management import ManagementCommand, ProgressLine, job_id, user_key_of
from notifications.management.subcommands.job_verbs import (
    CancelCommand,
    ChangeCommand,
    RescheduleCommand,
    RetryCommand,
    became,
    read_time,
)
from notifications.models import Job

#: The last one is an option of ``retry`` only: other jobs have not ended.
FILTERS = ("state", "queue", "task", "user", "finished_since")
#: The windows of ``--last``.
WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
HEADINGS = (
    *("queue", "task", "ended", "/min", "failed", "retried", "lost"),
    *("wait p50", "p95", "p99", "run p50", "p95", "p99"),
)
#: How many of the columns are text; the others are numbers.
TEXT_COLUMNS = 2


class BulkChangeCommand(ChangeCommand):
    """A verb that changes jobs by their ids or by filters: the base of those of the core, which know ids only."""

    verb: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="*", type=job_id, metavar="ID")
        parser.set_defaults(usage_error=parser.error)
        parser.add_argument(
            "--state", choices=Job.State.values, help="in place of ids: all jobs in this state"
        )
        parser.add_argument("--queue", help="in place of ids: all jobs of this queue")
        parser.add_argument("--task", metavar="PATH", help="in place of ids: all jobs of this task")
        parser.add_argument("--user", metavar="USERNAME", help="in place of ids: all jobs of this user")
        parser.set_defaults(finished_since=None)
        if self.verb == "retry":
            help_text = (
                "in place of ids: all that ended at this time or later, as 2026-12-01T02:00 in TIME_ZONE"
            )
            parser.add_argument("--finished-since", type=read_time, metavar="TIME", help=help_text)

    def is_filtered(self, ids: Sequence[Any], options: dict[str, Any]) -> bool:
        """Return whether filters are given, and not ids. Raises CommandError for both or neither."""
        given = any(options[name] is not None for name in FILTERS)
        if given == bool(ids):
            names = FILTERS if self.verb == "retry" else FILTERS[:-1]
            filters = ", ".join(f"--{name.replace('_', '-')}" for name in names)
            options["usage_error"](f"name jobs by their ids, or use {filters}")
        state = options["state"]
        if given and state and state not in changing.STATES[self.verb]:
            states = " or ".join(changing.STATES[self.verb])
            raise CommandError(f"--state is {state}. Only {states} jobs can be changed by {self.verb}.")
        return given

    def change(self, change: str, became: str, options: Any, run_at: datetime | None = None) -> None:
        """Change the jobs that the options select, and print how many."""
        changed, found = change_jobs(change, options, run_at)
        skipped = f" {found - changed:,} were skipped." if found > changed else ""
        text = f"{changed:,} {'job' if changed == 1 else 'jobs'} {became}.{skipped}"
        self.report(options, text, changed=changed, skipped=found - changed)


class BulkCancelCommand(CancelCommand, BulkChangeCommand):
    verb = "cancel"
    examples = ("cancel --queue mail --user ada",)

    def handle(self, *args: Any, ids: Any, **options: Any) -> None:
        if self.is_filtered(ids, options):
            self.change("cancel", "cancelled, or requested to end", options)
        else:
            super().handle(ids=ids, **options)


class BulkRetryCommand(RetryCommand, BulkChangeCommand):
    verb = "retry"
    examples = (
        *RetryCommand.examples,
        "retry --state failed --queue mail",
        "retry --state failed --finished-since 2026-12-01T02:00",
    )

    def handle(self, *args: Any, ids: Any, **options: Any) -> None:
        if not self.is_filtered(ids, options):
            super().handle(ids=ids, **options)
        elif options["from_start"]:
            raise CommandError("--from-start needs the IDs of jobs.")
        else:
            self.change("retry", "queued again", options)


class BulkRescheduleCommand(RescheduleCommand, BulkChangeCommand):
    verb = "reschedule"
    examples = ("reschedule --queue mail --at 2026-12-01T08:00", *RescheduleCommand.examples)

    def handle(self, *args: Any, ids: Any, at: datetime | None, **options: Any) -> None:
        if self.is_filtered(ids, options):
            self.change("reschedule" if at else "run_now", became(at), options, run_at=at)
        else:
            super().handle(ids=ids, at=at, **options)


def change_jobs(verb: str, options: dict[str, Any], run_at: datetime | None) -> tuple[int, int]:
    """Change the jobs that the filters select. Return how many were changed, and how many were found."""
    conditions = JobFilter(
        state=options["state"] or "",
        queue_name=options["queue"] or "",
        task_path=options["task"] or "",
        user="" if options["user"] is None else str(user_key_of(options["user"])),
        finished_from=options["finished_since"],
    )
    conditions = changing.conditions_until(verb, conditions, times.now())
    total, is_partial = changing.count_jobs(verb, conditions)
    changed = found = 0
    with ProgressLine("jobs", None if is_partial else total) as progress:
        for chunk in changing.change_jobs(verb, conditions, by=None, run_at=run_at):
            changed, found = changed + len(chunk.changed), found + len(chunk.found)
            progress.add(len(chunk.found))
    return changed, found


class StatsCommand(ManagementCommand):
    help = "print counts and percentiles of wait and run times, by queue"
    examples = ("stats --last day --by-task",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--last", choices=WINDOWS, default="hour", help="how far back (hour)")
        parser.add_argument("--by-task", action="store_true", help="a line for each task")
        parser.add_argument("--queue")

    def handle(self, *args: Any, last: str, by_task: bool, queue: str | None, **options: Any) -> None:
        figures = read_figures(WINDOWS[last], by_task=by_task, queue=queue)
        for line in map(json.dumps, map(figures_item, figures)) if options["json"] else table(figures):
            self.stdout.write_line(line)


def figures_item(figures: Figures) -> dict[str, Any]:
    """Return figures as an object for ``--json``. Times are in seconds, null without jobs."""
    return {
        "queue": figures.queue,
        "task": figures.task,
        "window_seconds": figures.seconds,
        "ended": figures.ended,
        "ended_per_minute": figures.ended_per_minute,
        "succeeded": figures.succeeded,
        "failed": figures.failed,
        "cancelled": figures.cancelled,
        "failure_rate": figures.failure_rate,
        "retried": figures.retried,
        "timed_out": figures.timed_out,
        "lost": figures.lost,
        "wait": _percentiles(figures.wait),
        "run": _percentiles(figures.run),
    }


def table(rows: Iterable[Figures]) -> Iterator[str]:
    cells = [HEADINGS, *(_cells(figures) for figures in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    for row in cells:
        text = (
            cell.ljust(width) if column < TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(text).rstrip()


def _percentiles(histogram: Histogram) -> dict[str, float | None]:
    return {"p50": histogram.p50, "p95": histogram.p95, "p99": histogram.p99}


def _cells(figures: Figures) -> tuple[str, ...]:
    rate = figures.failure_rate
    return (
        figures.queue or "-",
        figures.task or "all",
        str(figures.ended),
        f"{figures.ended_per_minute:.1f}",
        "-" if rate is None else f"{rate:.1%}",
        str(figures.retried),
        str(figures.lost),
        *(_seconds(value) for value in _percentiles(figures.wait).values()),
        *(_seconds(value) for value in _percentiles(figures.run).values()),
    )


def _seconds(value: float | None) -> str:
    """Return a time in a unit that is read easily."""
    if value is None:
        return "-"
    return (
        f"{value * 1000:.0f} ms"
        if value < 1
        else f"{value:.1f} s"
        if value < 100
        else f"{value / 60:.0f} min"
    )
