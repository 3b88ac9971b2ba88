"""``manage.py jobs``: look at jobs, cancel them, have them tried again; pause and resume queues."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from notifications import serializers
from notifications.db.transactions import database, turn_autocommit_on
from notifications.exceptions import TooManyJobs
from notifications.jobs.claiming import queues
from notifications.jobs.claiming.stranded import unserved_jobs
from notifications.jobs.transitions import manual
from notifications.models import Attempt, Job

#: Jobs that one list shows at most.
MAX_JOBS_LISTED = 1_000_000


class Command(BaseCommand):
    help = "Look at jobs, cancel them, have them tried again; pause and resume queues."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        listing = verbs.add_parser("list", help="list jobs, newest first")
        listing.add_argument("--state", choices=Job.State.values)
        listing.add_argument("--queue")
        listing.add_argument("--user", metavar="USERNAME", help="only jobs of this user")
        listing.add_argument("--limit", type=int, default=50, help="at most so many (50)")
        show = verbs.add_parser("show", help="show one job, with its attempts and what they raised")
        show.add_argument("id", type=job_id)
        for verb, words in (
            ("cancel", "cancel queued jobs at once, and ask running ones to end"),
            ("retry", "queue jobs again that failed or were cancelled"),
        ):
            verbs.add_parser(verb, help=words).add_argument("ids", nargs="+", type=job_id, metavar="ID")
        for verb, words in (
            ("pause", "let no more jobs of a queue begin; running ones go on"),
            ("resume", "let jobs of a queue begin again"),
        ):
            verbs.add_parser(verb, help=words).add_argument("queue")
        for each in verbs.choices.values():
            each.add_argument("--json", action="store_true", help="a JSON object a line")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if self._called_from_command_line:
            turn_autocommit_on()
        try:
            getattr(self, verb)(**options)
        except Error as exc:
            raise CommandError(f"The database does not take it now ({exc}). Try again.") from exc

    def list(
        self, state: str | None, queue: str | None, user: str | None, limit: int, **options: Any
    ) -> None:
        if not 1 <= limit <= MAX_JOBS_LISTED:
            raise CommandError(f"--limit is {limit}. It must be 1 to {MAX_JOBS_LISTED}.")
        rows = Job.objects.using(database()).order_by("-id")
        for field, value in (("state", state), ("queue_name", queue), ("user", user and key_of(user))):
            if value is not None:
                rows = rows.filter(**{field: value})
        paused = set(queues.paused_queues())
        in_vain = set(unserved_jobs().filter(pk__in=rows[:limit].values("pk")).values_list("pk", flat=True))
        for job in rows[:limit]:
            if options["json"]:
                self.stdout.write(json.dumps(item(job)))
                continue
            details = [job.title, problem(job), "its queue is paused" if job.queue_name in paused else ""]
            if job.pk in in_vain:
                details.append("waiting for a worker")
            if job.done:
                details.pop()
            words = " | ".join(" ".join(detail.split()) for detail in details if detail)
            self.stdout.write(f"{job.id}  {job.state:<9}  {job.attempt}/{job.max_attempts}  {words}")

    def show(self, id: UUID, **options: Any) -> None:
        job = Job.objects.using(database()).filter(pk=id).first()
        if job is None:
            raise CommandError(
                f"There is no job {id}. It may be pruned already; `jobs list` shows what there is."
            )
        attempts = list(Attempt.objects.using(database()).filter(job=id).order_by("number"))
        if options["json"]:
            self.stdout.write(
                json.dumps({**item(job), "attempts": [attempt_item(each) for each in attempts]})
            )
            return
        facts = {
            "Title": job.title,
            "Task": job.task_path,
            "State": f"{job.state}, attempt {job.attempt} of {job.max_attempts}",
            "Error": problem(job),
            "User": job.user_id,
            "Queue": f"{job.queue_name}, priority {job.priority}",
            "Concurrency": job.concurrency_key,
            "Worker": job.worker,
            "Queued": serializers.format_time(job.queued_at),
            "Not before": None if job.done else serializers.format_time(job.run_after),
            "Started": serializers.format_time(job.started_at),
            "Finished": serializers.format_time(job.finished_at),
            "Cancel asked": serializers.format_time(job.cancel_requested_at),
        }
        for name, value in facts.items():
            if value not in (None, ""):
                self.stdout.write(f"{name + ':':<13} {value}")
        for attempt in attempts:
            self.stdout.write(
                f"\nAttempt {attempt.number}: {attempt.outcome} {serializers.format_time(attempt.ended_at)}"
            )
            self.stdout.write(attempt.traceback.rstrip() or attempt.exception_class_path)

    def cancel(self, ids: Any, **options: Any) -> None:
        became = manual.cancel(ids)
        for id, what in became.items():
            self.say(
                options, f"{id} {'is asked to end' if what == 'asked' else what}", id=str(id), became=what
            )
        self.refuse(set(ids) - became.keys(), "Only a queued or running job can be cancelled.")

    def retry(self, ids: Any, **options: Any) -> None:
        try:
            queued = manual.retry(ids)
        except TooManyJobs as exc:
            raise CommandError(f"Not all are queued again: their owner has too many. {exc}") from exc
        for id in queued:
            self.say(options, f"{id} queued again", id=str(id), became="queued")
        self.refuse(set(ids) - set(queued), "Only a job that failed or was cancelled is tried again.")

    def pause(self, queue: str, **options: Any) -> None:
        self.set_queue(queues.pause, queue, options, "paused")

    def resume(self, queue: str, **options: Any) -> None:
        self.set_queue(queues.resume, queue, options, "resumed")

    def set_queue(self, change: Any, queue: str, options: Any, became: str) -> None:
        try:
            change(queue)
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
        self.say(options, f"Queue {queue} is {became}.", queue=queue, paused=became == "paused")

    def say(self, options: Any, words: str, **fields: Any) -> None:
        self.stdout.write(json.dumps(fields) if options["json"] else words)

    def refuse(self, ids: set[UUID], rule: str) -> None:
        """Say of these jobs what they are instead, and end with exit code 1, if there are any."""
        states = dict(Job.objects.using(database()).filter(pk__in=ids).values_list("pk", "state"))
        if ids:
            which = ", ".join(f"{id} is {states.get(id, 'not there')}" for id in sorted(ids))
            raise CommandError(f"{which}. {rule}")


def job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise ArgumentTypeError(
            f"{text[:100]!r} is no id. An id is a UUID, as `jobs list` shows it."
        ) from exc


def key_of(username: str) -> Any:
    users = get_user_model()
    try:
        return users._default_manager.get_by_natural_key(username).pk
    except users.DoesNotExist as exc:
        raise CommandError(f"There is no user {username!r}. Check the spelling.") from exc


def item(job: Job) -> dict[str, Any]:
    """A job as the API shows it, and what operators ask for."""
    return {
        **json.loads(serializers.encode_item(job)),
        "user": None if job.user_id is None else str(job.user_id),
        "queue": job.queue_name,
        "priority": job.priority,
        "concurrency_key": job.concurrency_key,
        "worker": job.worker and str(job.worker),
        "queued_at": serializers.format_time(job.queued_at),
        "cancel_requested_at": serializers.format_time(job.cancel_requested_at),
    }


def attempt_item(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "worker": attempt.worker and str(attempt.worker),
        "started_at": serializers.format_time(attempt.started_at),
        "ended_at": serializers.format_time(attempt.ended_at),
        "exception": attempt.exception_class_path,
        "traceback": attempt.traceback,
    }


def problem(job: Job) -> str:
    return (serializers.job_error(job) or {}).get("detail") or ""
