"""``jobs stats``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from notifications.contrib.operations.statistics import Figures, Histogram, read_figures
from notifications.db import database_now
from notifications.management import ManagementCommand

#: The windows of ``--last``.
WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
HEADINGS = (
    "queue",
    "task",
    "ended",
    "/min",
    "failed",
    "retried",
    "lost",
    "wait p50",
    "p95",
    "p99",
    "run p50",
    "p95",
    "p99",
)
#: How many of the columns are text; the others are numbers.
TEXT_COLUMNS = 2


class StatsCommand(ManagementCommand):
    help = "print counts and percentiles of wait and run times, by queue"
    examples = ("stats --last day --by-task",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--last", choices=WINDOWS, default="hour", help="how far back (hour)")
        parser.add_argument("--by-task", action="store_true", help="a line for each task")
        parser.add_argument("--queue")

    def handle(self, *args: Any, last: str, by_task: bool, queue: str | None, **options: Any) -> None:
        figures = read_figures(WINDOWS[last], by_task=by_task, queue=queue, now=database_now())
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
