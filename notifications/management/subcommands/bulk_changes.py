"""``jobs retry``, ``cancel`` and ``reschedule`` with filters in place of ids."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from notifications import times
from notifications.db.transactions import database
from notifications.jobs.claiming import queues
from notifications.management.progress_line import ProgressLine
from notifications.models import Job, Worker
from notifications.operations import bulk_changes as changing
from notifications.operations.matching import JobFilter

#: The last one is an option of ``retry`` only: other jobs have not ended.
FILTERS = ("state", "queue", "task", "user", "finished_since")


def add_arguments(parser: ArgumentParser, verb: str) -> None:
    """Add the filters."""
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("--state", choices=Job.State.values, help="in place of ids: all jobs in this state")
    parser.add_argument("--queue", help="in place of ids: all jobs of this queue")
    parser.add_argument("--task", metavar="PATH", help="in place of ids: all jobs of this task")
    parser.add_argument("--user", metavar="USERNAME", help="in place of ids: all jobs of this user")
    parser.set_defaults(finished_since=None)
    if verb == "retry":
        help_text = "in place of ids: all that ended at this time or later, as 2026-12-01T02:00 in TIME_ZONE"
        parser.add_argument("--finished-since", type=read_time, metavar="TIME", help=help_text)


def is_filtered(ids: Sequence[Any], options: dict[str, Any], verb: str) -> bool:
    """Return whether filters are given, and not ids. Raises CommandError for both or neither."""
    given = any(options[name] is not None for name in FILTERS)
    if given == bool(ids):
        names = FILTERS if verb == "retry" else FILTERS[:-1]
        filters = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        options["usage_error"](f"name jobs by their ids, or use {filters}")
    state = options["state"]
    if given and state and state not in changing.STATES[verb]:
        states = " or ".join(changing.STATES[verb])
        raise CommandError(f"--state is {state}. Only {states} jobs can be changed by {verb}.")
    return given


def change(
    verb: str, options: dict[str, Any], find_user: Callable[[str], Any], run_at: datetime | None
) -> tuple[int, int]:
    """Change the jobs that the filters select. Return how many were changed, and how many were found."""
    conditions = JobFilter(
        state=options["state"] or "",
        queue_name=options["queue"] or "",
        task_path=options["task"] or "",
        user="" if options["user"] is None else str(find_user(options["user"])),
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


def read_time(text: str) -> datetime:
    """Return the time that an option names, in ``TIME_ZONE`` if it has no offset."""
    try:
        return times.as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as exc:
        raise ArgumentTypeError(f"{text[:100]!r} is not a time. Write it as 2026-12-01T08:00.") from exc


def is_queue_used(name: str) -> bool:
    """Return whether the settings, a worker or a job names a queue."""
    if name in (queues.known_queues() or ()) or name in queues.queue_limits() or name == "default":
        return True
    rows = Worker.objects.using(database()).values_list("queues", flat=True)
    if any(name in served.split(",") for served in rows):
        return True
    return bool(Job.objects.using(database()).filter(queue_name=name).exists())
