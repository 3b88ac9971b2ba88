"""The verbs of ``manage.py notifications jobs`` that change jobs by their ids, or a queue."""

from __future__ import annotations

import json
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from notifications import times
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.extension import moved
from notifications.jobs.claiming import queues
from notifications.jobs.transitions import manual
from notifications.management.management_command import ManagementCommand
from notifications.models import Job, Worker

#: Options in place of ids that the app of operations adds.
FILTERS = ("--state", "--queue", "--task", "--user", "--finished-since")


class RefusedFilter(Action):
    """An option that needs the app of operations, which is not installed."""

    def __call__(self, parser: ArgumentParser, *args: Any) -> None:
        parser.error(f"{args[-1]} is an option of an optional app. {moved.describe_remedy('operations')}")


class JobVerb(ManagementCommand):
    """A verb that prints what it has changed."""

    def report(self, options: Any, text: str, **fields: Any) -> None:
        self.stdout.write(json.dumps(fields) if options["json"] else text)


class ChangeCommand(JobVerb):
    """A verb that changes jobs."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="+", type=job_id, metavar="ID")
        parser.add_argument(*FILTERS, action=RefusedFilter, dest="filters", help=SUPPRESS)

    def fail_for(self, ids: set[UUID], rule: str) -> None:
        """Raise CommandError with the states of these jobs, if there are any."""
        states = dict(Job.objects.using(database()).filter(pk__in=ids).values_list("pk", "state"))
        if ids:
            listed = ", ".join(f"{id} is {states.get(id, 'unknown')}" for id in sorted(ids))
            raise CommandError(f"{listed}. {rule}")


class CancelCommand(ChangeCommand):
    help = "cancel queued jobs, and request that running ones end"
    examples = ("cancel 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",)

    def handle(self, *args: Any, ids: Any, **options: Any) -> None:
        became = manual.cancel(ids)
        for id, what in became.items():
            text = "cancellation requested" if what == "asked" else what
            self.report(options, f"{id} {text}", id=str(id), became=what)
        self.fail_for(set(ids) - became.keys(), "Only a queued or running job can be cancelled.")


class RetryCommand(ChangeCommand):
    help = "queue failed or cancelled jobs again"
    examples: ClassVar[tuple[str, ...]] = ("retry 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        help_text = "delete the results of their steps (only with IDs)"
        parser.add_argument("--from-start", action="store_true", help=help_text)

    def handle(self, *args: Any, ids: Any, **options: Any) -> None:
        try:
            queued = manual.retry(ids, from_start=options["from_start"])
        except TooManyJobs as exc:
            raise CommandError(f"Not all jobs were queued again: the owner has too many. {exc}") from exc
        for id in queued:
            self.report(options, f"{id} queued again", id=str(id), became="queued")
        self.fail_for(set(ids) - set(queued), "Only a failed or cancelled job can be retried.")


class RescheduleCommand(ChangeCommand):
    help = "have queued jobs run at another time, or now"
    examples: ClassVar[tuple[str, ...]] = ("reschedule 01a1f8f2-ae7a-7f43-862b-61a65fab0c49 --at now",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        help_text = 'when: as 2026-12-01T08:00 in TIME_ZONE, with an offset, or "now"'
        parser.add_argument("--at", type=run_time, required=True, metavar="TIME", help=help_text)

    def handle(self, *args: Any, ids: Any, at: datetime | None, **options: Any) -> None:
        changed = manual.reschedule(ids, at)
        for id in changed:
            self.report(options, f"{id} {became(at)}", id=str(id), run_after=times.format_time(at))
        rule = "Only a queued job can be rescheduled" + (
            "." if at else ", and run now if it waits for a time."
        )
        self.fail_for(set(ids) - set(changed), rule)


class PauseCommand(JobVerb):
    help = "stop starting jobs of a queue; running ones go on"
    examples = ("pause mail",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("queue")

    def handle(self, *args: Any, queue: str, **options: Any) -> None:
        self.set_queue(queues.pause_queue, queue, options, "paused")

    def set_queue(self, change: Callable[[str], Any], queue: str, options: Any, became: str) -> None:
        """Pause or resume a queue, and print what it has become."""
        try:
            change(queue)
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
        if not is_queue_used(queue):
            self.stderr.write_plain(
                f"No job is in the queue {queue}, and TASKS does not name it. Is it misspelled?"
            )
        self.report(options, f"Queue {queue} is {became}.", queue=queue, paused=became == "paused")


class ResumeCommand(PauseCommand):
    help = "start jobs of a queue again"
    examples = ("resume mail",)

    def handle(self, *args: Any, queue: str, **options: Any) -> None:
        self.set_queue(queues.resume_queue, queue, options, "resumed")


def became(at: datetime | None) -> str:
    """Return what a job has become that was rescheduled."""
    return f"to run at {times.format_time(at)}" if at else "to run now"


def job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise ArgumentTypeError(
            f"{text[:100]!r} is not an id. An id is a UUID, as printed by `manage.py notifications jobs list`."
        ) from exc


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


def user_key_of(username: str) -> Any:
    users = get_user_model()
    try:
        return users._default_manager.get_by_natural_key(username).pk
    except users.DoesNotExist as exc:
        raise CommandError(
            f"There is no user {username!r}. Check the spelling of the {users.USERNAME_FIELD}."
        ) from exc


def no_such_job(job: UUID) -> CommandError:
    return CommandError(
        f"There is no job {job}. It may have been pruned; "
        "`manage.py notifications jobs list` shows the existing ones."
    )


def is_queue_used(name: str) -> bool:
    """Return whether the settings, a worker or a job names a queue."""
    if name in (queues.known_queues() or ()) or name in queues.queue_limits() or name == "default":
        return True
    rows = Worker.objects.using(database()).values_list("queues", flat=True)
    if any(name in served.split(",") for served in rows):
        return True
    return bool(Job.objects.using(database()).filter(queue_name=name).exists())
