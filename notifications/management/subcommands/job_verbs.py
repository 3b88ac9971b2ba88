"""The verbs of ``manage.py notifications jobs`` that change jobs, by their ids or by filters, or a queue."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError

from notifications import times
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.jobs.changing import STATES, change_jobs
from notifications.jobs.claiming import queues
from notifications.jobs.selection import JobFilter
from notifications.management.management_command import ManagementCommand
from notifications.models import Job, Worker


class ChangeCommand(ManagementCommand):
    """A verb that changes jobs, by their ids or all that filters find."""

    verb: ClassVar[str]
    #: Which jobs it changes.
    rule: str
    #: Options that are filters. Of jobs that have not ended none ended at a time.
    filters: ClassVar[tuple[str, ...]] = ("state", "queue", "task", "user", "tag")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="*", type=self.job_id, metavar="ID")
        parser.set_defaults(usage_error=parser.error, finished_since=None)
        parser.add_argument(
            "--state", choices=Job.State.values, help="in place of ids: all jobs in this state"
        )
        parser.add_argument("--queue", help="in place of ids: all jobs of this queue")
        parser.add_argument("--task", metavar="PATH", help="in place of ids: all jobs of this task")
        parser.add_argument("--user", metavar="USERNAME", help="in place of ids: all jobs of this user")
        parser.add_argument("--tag", help="in place of ids: all jobs with this tag")

    def handle(self, *args: Any, ids: list[UUID], **options: Any) -> None:
        given = any(options[name] is not None for name in self.filters)
        if given == bool(ids):
            filters = ", ".join(f"--{name.replace('_', '-')}" for name in self.filters)
            options["usage_error"](f"name jobs by their ids, or use {filters}")
        if ids:
            self.change_each(ids, options)
        else:
            self.change_all(options)

    def verb_and_options(self, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the change, and the options of it that apply."""
        return self.verb, {}

    def became(self, what: str, options: dict[str, Any]) -> str:
        """Return what a job has become, which is ``what`` for ``change_jobs()``; many jobs for ``""``."""
        raise NotImplementedError

    def change_each(self, ids: list[UUID], options: dict[str, Any]) -> None:
        """Change jobs by their ids, and print each. Raises CommandError with the states of those that are left."""
        change, values = self.verb_and_options(options)
        try:
            chunk = change_jobs(change, ids, **values)
        except TooManyJobs as exc:
            raise CommandError(f"Not all jobs were queued again: the owner has too many. {exc}") from exc
        for id, what in chunk.changed.items():
            fields = self.fields(what, options)
            self.report(options, f"{id} {self.became(what, options)}", id=str(id), **fields)
        left = set(ids) - chunk.changed.keys()
        states = dict(Job.objects.using(database()).filter(pk__in=left).values_list("pk", "state"))
        if left:
            listed = ", ".join(f"{id} is {states.get(id, 'unknown')}" for id in sorted(left))
            raise CommandError(f"{listed}. {self.rule}")

    def fields(self, what: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"became": what}

    def change_all(self, options: dict[str, Any]) -> None:
        """Change the jobs that the filters select, and print how many."""
        state = options["state"]
        if state and state not in STATES[self.verb]:
            states = " or ".join(STATES[self.verb])
            raise CommandError(f"--state is {state}. Only {states} jobs can be changed by {self.verb}.")
        conditions = JobFilter(
            state=state or "",
            queue_name=options["queue"] or "",
            task_path=options["task"] or "",
            user="" if options["user"] is None else str(self.user_key_of(options["user"])),
            tag=options["tag"] or "",
            finished_from=options["finished_since"],
        )
        verb, values = self.verb_and_options(options)
        if values.pop("from_start", False):
            raise CommandError("--from-start needs the IDs of jobs.")
        conditions = conditions.until(verb, times.now())
        total, is_partial = conditions.count(verb)
        changed = found = 0
        with self.progress("jobs", None if is_partial else total) as progress:
            for chunk in conditions.change(verb, **values):
                changed, found = changed + len(chunk.changed), found + len(chunk.found)
                progress.add(len(chunk.found))
        skipped = f" {found - changed:,} were skipped." if found > changed else ""
        text = f"{changed:,} {'job' if changed == 1 else 'jobs'} {self.became('', options)}.{skipped}"
        self.report(options, text, changed=changed, skipped=found - changed)


class CancelCommand(ChangeCommand):
    help = "cancel queued and waiting jobs, and request that running ones end"
    examples = ("cancel --queue mail --user ada",)
    verb, rule = "cancel", "Only a queued, waiting or running job can be cancelled."

    def became(self, what: str, options: dict[str, Any]) -> str:
        texts = {"": "cancelled, or requested to end", "asked": "cancellation requested"}
        return texts.get(what, what)


class RetryCommand(ChangeCommand):
    help = "queue failed or cancelled jobs again"
    examples: ClassVar[tuple[str, ...]] = (
        "retry 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",
        "retry --state failed --queue mail",
        "retry --state failed --finished-since 2026-12-01T02:00",
    )
    verb, rule = "retry", "Only a failed or cancelled job can be retried."
    filters = (*ChangeCommand.filters, "finished_since")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        help_text = "in place of ids: all that ended at this time or later, as 2026-12-01T02:00 in TIME_ZONE"
        parser.add_argument("--finished-since", type=read_time, metavar="TIME", help=help_text)
        help_text = "delete the results of their steps (only with IDs)"
        parser.add_argument("--from-start", action="store_true", help=help_text)

    def verb_and_options(self, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "retry", {"from_start": options["from_start"]}

    def became(self, what: str, options: dict[str, Any]) -> str:
        return "queued again"


class RescheduleCommand(ChangeCommand):
    help = "have queued jobs run at another time, or now"
    examples: ClassVar[tuple[str, ...]] = (
        "reschedule --queue mail --at 2026-12-01T08:00",
        "reschedule 01a1f8f2-ae7a-7f43-862b-61a65fab0c49 --at now",
    )
    verb, rule = "reschedule", "Only a queued job can be rescheduled."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        help_text = 'when: as 2026-12-01T08:00 in TIME_ZONE, with an offset, or "now"'
        parser.add_argument("--at", type=run_time, required=True, metavar="TIME", help=help_text)

    def verb_and_options(self, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if options["at"]:
            return "reschedule", {"run_at": options["at"]}
        self.rule = "Only a queued job can be rescheduled, and run now if it waits for a time."
        return "run_now", {}

    def became(self, what: str, options: dict[str, Any]) -> str:
        return f"to run at {times.format_time(options['at'])}" if options["at"] else "to run now"

    def fields(self, what: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"run_after": times.format_time(options["at"])}


class PauseCommand(ManagementCommand):
    help = "stop starting jobs of a queue; running ones go on"
    examples = ("pause mail",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("queue")

    def handle(self, *args: Any, queue: str, **options: Any) -> None:
        self.set_queue(queue, options, is_paused=True)

    def set_queue(self, queue: str, options: Any, *, is_paused: bool) -> None:
        """Pause or resume a queue, and print what it has become."""
        try:
            queues.pause_queue(queue, is_paused=is_paused)
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
        if not is_queue_used(queue):
            self.stderr.write_plain(
                f"No job is in the queue {queue}, and TASKS does not name it. Is it misspelled?"
            )
        became = "paused" if is_paused else "resumed"
        self.report(options, f"Queue {queue} is {became}.", queue=queue, paused=is_paused)


class ResumeCommand(PauseCommand):
    help = "start jobs of a queue again"
    examples = ("resume mail",)

    def handle(self, *args: Any, queue: str, **options: Any) -> None:
        self.set_queue(queue, options, is_paused=False)


def read_time(text: str) -> datetime:
    """Return the time that an option names, in ``TIME_ZONE`` if it has no offset."""
    try:
        return times.as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as exc:
        raise ArgumentTypeError(f"{text[:100]!r} is not a time. Write it as 2026-12-01T08:00.") from exc


def run_time(text: str) -> datetime | None:
    """Return a time to come, None for "now"."""
    if text == "now":
        return None
    moment = read_time(text)
    if moment <= times.now():
        raise ArgumentTypeError(f"{text[:100]} is over. Name a later time, or now.")
    return moment


def is_queue_used(name: str) -> bool:
    """Return whether the settings, a worker or a job names a queue."""
    if name in (queues.known_queues() or ()) or name in queues.queue_limits() or name == "default":
        return True
    rows = Worker.objects.using(database()).values_list("queues", flat=True)
    if any(name in served.split(",") for served in rows):
        return True
    return bool(Job.objects.using(database()).filter(queue_name=name).exists())
