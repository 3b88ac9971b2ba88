"""``manage.py notifications jobs``: list, show, cancel, retry and reschedule jobs; pause queues."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import connections

from notifications import serializers, times
from notifications.db.keyset import NEWEST_FIRST
from notifications.db.transactions import database
from notifications.db.unavailable import UNAVAILABLE, is_not_migrated
from notifications.exceptions import TooManyJobs
from notifications.jobs.claiming import queues
from notifications.jobs.claiming.executors import ENGINE_EXECUTORS
from notifications.jobs.transitions import manual
from notifications.management.management_command import ManagementCommand, common_options
from notifications.management.subcommands import bulk_changes, job_answers
from notifications.management.subcommands.job_changes import JobChanges
from notifications.management.subcommands.job_history import describe_history, history_item
from notifications.management.subcommands.job_lines import (
    change_line,
    dispatches,
    error_detail,
    error_texts,
    item,
    runner_of,
)
from notifications.management.subcommands.job_output import follow_output, no_such_job
from notifications.management.subcommands.job_statistics import WINDOWS, figures_item, table
from notifications.models import Job
from notifications.operations import unserved_engines
from notifications.operations.unserved_queues import unserved_jobs
from notifications.realtime import doorbell
from notifications.statistics import read_figures

#: Seconds between two reads of ``tail`` if no ring comes, and at least.
POLL_INTERVAL_SECONDS, MIN_READ_INTERVAL_SECONDS = 2.0, 0.2
#: Jobs that one list shows at most.
MAX_JOBS_LISTED = 1_000_000


class JobsCommand(ManagementCommand):
    help = "List, show, follow, count, cancel, retry and reschedule jobs; pause and resume queues."
    examples = (
        "list --state failed --queue mail --limit 10",
        "show 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",
        "output 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",
        "retry 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",
        "retry --state failed --queue mail",
        "retry --state failed --finished-since 2026-12-01T02:00",
        "cancel --queue mail --user ada",
        "reschedule --queue mail --at 2026-12-01T08:00",
        "reschedule 01a1f8f2-ae7a-7f43-862b-61a65fab0c49 --at now",
        "answer 01a1f8f2-ae7a-7f43-862b-61a65fab0c49 yes",
        "pause mail",
        "resume mail",
        "tail --queue mail",
        "stats --last day --by-task",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        inherited = [common_options()]
        listing = verbs.add_parser("list", help="list jobs, newest first", parents=inherited)
        listing.add_argument("--state", choices=Job.State.values)
        listing.add_argument("--queue")
        listing.add_argument("--user", metavar="USERNAME", help="only jobs of this user")
        listing.add_argument("--limit", type=int, default=50, help="jobs to list at most (50)")
        show = verbs.add_parser(
            "show", help="show one job, with its steps, attempts and tracebacks", parents=inherited
        )
        show.add_argument("id", type=job_id)
        output = verbs.add_parser(
            "output", help="print what a job writes, until it is done or Ctrl-C", parents=inherited
        )
        output.add_argument("id", type=job_id)
        for verb, help_text in (
            ("cancel", "cancel queued jobs, and request that running ones end"),
            ("retry", "queue failed or cancelled jobs again"),
            ("reschedule", "have queued jobs run at another time, or now"),
        ):
            parser = verbs.add_parser(verb, help=help_text, parents=inherited)
            parser.add_argument("ids", nargs="*", type=job_id, metavar="ID")
            bulk_changes.add_arguments(parser, verb)
            if verb == "retry":
                parser.add_argument(
                    "--from-start",
                    action="store_true",
                    help="delete the results of their steps (only with IDs)",
                )
            if verb == "reschedule":
                help_text = 'when: as 2026-12-01T08:00 in TIME_ZONE, with an offset, or "now"'
                parser.add_argument("--at", type=run_time, required=True, metavar="TIME", help=help_text)
        for verb, help_text in (
            ("pause", "stop starting jobs of a queue; running ones go on"),
            ("resume", "start jobs of a queue again"),
        ):
            verbs.add_parser(verb, help=help_text, parents=inherited).add_argument("queue")
        answer = verbs.add_parser("answer", help="answer a question of a waiting job", parents=inherited)
        job_answers.add_arguments(answer, job_id)
        tail = verbs.add_parser("tail", help="print each change of a job until Ctrl-C", parents=inherited)
        tail.add_argument("--queue")
        tail.add_argument("--user", metavar="USERNAME", help="only jobs of this user")
        stats = verbs.add_parser(
            "stats", help="print counts and percentiles of wait and run times, by queue", parents=inherited
        )
        stats.add_argument("--last", choices=WINDOWS, default="hour", help="how far back (hour)")
        stats.add_argument("--by-task", action="store_true", help="a line for each task")
        stats.add_argument("--queue")
        self.add_examples(verbs)
        for subparser in verbs.choices.values():
            subparser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        getattr(self, verb)(**options)

    def list(
        self, state: str | None, queue: str | None, user: str | None, limit: int, **options: Any
    ) -> None:
        if not 1 <= limit <= MAX_JOBS_LISTED:
            raise CommandError(f"--limit is {limit}. It must be 1 to {MAX_JOBS_LISTED}.")
        rows = NEWEST_FIRST.sort(Job.objects.using(database()))
        for field, value in (("state", state), ("queue_name", queue), ("user", user and user_key_of(user))):
            if value is not None:
                rows = rows.filter(**{field: value})
        paused = set(queues.paused_queues())
        listed = rows[:limit].values("pk")
        unserved_ids = {
            pk
            for unserved in (unserved_jobs(), unserved_engines.unserved_jobs())
            for pk in unserved.filter(pk__in=listed).values_list("pk", flat=True)
        }
        jobs = rows[:limit]
        errors = {} if options["json"] else error_texts(jobs)
        for job in jobs:
            if options["json"]:
                self.stdout.write(json.dumps(item(job)))
                continue
            details = [
                job.title,
                errors[job.pk],
                "its queue is paused" if job.queue_name in paused else "",
            ]
            if job.pk in unserved_ids:
                details.append(f"waiting for {runner_of(job)}")
            if job.done:
                details.pop()
            text = " | ".join(filter(None, details))
            self.stdout.write_line(f"{job.id}  {job.state:<9}  {job.attempt}/{job.max_attempts}  {text}")

    def show(self, id: UUID, **options: Any) -> None:
        job = Job.objects.using(database()).filter(pk=id).first()
        if job is None:
            raise no_such_job(id)
        if options["json"]:
            self.stdout.write(json.dumps({**item(job), **history_item(job)}))
            return
        facts = {
            "Title": job.title,
            "Task": job.task_path,
            "State": f"{job.state}, attempt {job.attempt} of {job.max_attempts}",
            "Error": error_detail(job),
            "User": job.user_id,
            "Queue": f"{job.queue_name}, priority {job.priority}",
            "Concurrency": job.concurrency_key,
            "Runs on": runner_of(job) if job.executor in ENGINE_EXECUTORS else "",
            "Handed over": dispatches(job),
            "Worker": job.worker,
            "Queued": serializers.format_time(job.queued_at),
            "Not before": None if job.done else serializers.format_time(job.run_after),
            "Started": serializers.format_time(job.started_at),
            "Finished": serializers.format_time(job.finished_at),
            "Cancellation": serializers.format_time(job.cancel_requested_at),
        }
        for name, value in facts.items():
            if value not in (None, ""):
                self.stdout.write_line(f"{name + ':':<13} {value}")
        for line in describe_history(job):
            self.stdout.write_line(line)

    def output(self, id: UUID, **options: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            for text in follow_output(id):
                line = json.dumps({"text": text}) + "\n" if options["json"] else text
                self.stdout.write(line, ending="")
                self.stdout.flush()

    def tail(self, queue: str | None, user: str | None, **options: Any) -> None:
        key = None if user is None else user_key_of(user)
        changes = JobChanges()
        rung = threading.Event()
        stop = doorbell.listen(lambda users, queue: rung.set())
        try:
            changes.read()  # What is there is not a change.
            self.stderr.write_plain("Changes of jobs from now on. Ctrl-C ends it.")
            self.stderr.flush()
            while True:
                rung.wait(POLL_INTERVAL_SECONDS)
                rung.clear()
                self.print_changes(changes, queue, key, options)
                time.sleep(MIN_READ_INTERVAL_SECONDS)
        except KeyboardInterrupt:
            return
        finally:
            stop()

    def print_changes(self, changes: JobChanges, queue: str | None, user: Any, options: Any) -> None:
        """Print the jobs that have changed, of one queue and user if they are given."""
        try:
            jobs, is_cut = changes.read()
        except UNAVAILABLE as exc:
            if is_not_migrated(exc):
                raise
            self.stderr.write(f"Could not read the database, trying again: {exc}")
            connections.close_all()
            return
        jobs = [job for job in jobs if queue in (None, job.queue_name) and user in (None, job.user_id)]
        try:
            errors = {} if options["json"] else error_texts(jobs)
        except UNAVAILABLE:  # What was read is printed all the same: it is not read again.
            errors = {job.id: error_detail(job) for job in jobs}
        for job in jobs:
            text = json.dumps(item(job)) if options["json"] else change_line(job, errors[job.pk])
            self.stdout.write_line(text)
        self.stdout.flush()
        if is_cut:
            self.stderr.write_plain("More jobs have changed than were read. Some changes are not shown.")

    def stats(self, last: str, by_task: bool, queue: str | None, **options: Any) -> None:
        figures = read_figures(WINDOWS[last], by_task=by_task, queue=queue)
        for line in map(json.dumps, map(figures_item, figures)) if options["json"] else table(figures):
            self.stdout.write_line(line)

    def cancel(self, ids: Any, **options: Any) -> None:
        if bulk_changes.is_filtered(ids, options, "cancel"):
            return self.report_bulk("cancel", "cancelled, or requested to end", options)
        became = manual.cancel(ids)
        for id, what in became.items():
            text = "cancellation requested" if what == "asked" else what
            self.report(options, f"{id} {text}", id=str(id), became=what)
        self.fail_for(set(ids) - became.keys(), "Only a queued or running job can be cancelled.")

    def retry(self, ids: Any, **options: Any) -> None:
        if bulk_changes.is_filtered(ids, options, "retry"):
            if options["from_start"]:
                raise CommandError("--from-start needs the IDs of jobs.")
            return self.report_bulk("retry", "queued again", options)
        try:
            queued = manual.retry(ids, from_start=options["from_start"])
        except TooManyJobs as exc:
            raise CommandError(f"Not all jobs were queued again: the owner has too many. {exc}") from exc
        for id in queued:
            self.report(options, f"{id} queued again", id=str(id), became="queued")
        self.fail_for(set(ids) - set(queued), "Only a failed or cancelled job can be retried.")

    def reschedule(self, ids: Any, at: datetime | None, **options: Any) -> None:
        change = "reschedule" if at else "run_now"
        became = f"to run at {serializers.format_time(at)}" if at else "to run now"
        if bulk_changes.is_filtered(ids, options, "reschedule"):
            return self.report_bulk(change, became, options, run_at=at)
        changed = manual.reschedule(ids, at)
        for id in changed:
            self.report(options, f"{id} {became}", id=str(id), run_after=serializers.format_time(at))
        rule = "Only a queued job can be rescheduled" + (
            "." if at else ", and run now if it waits for a time."
        )
        self.fail_for(set(ids) - set(changed), rule)

    def answer(self, id: UUID, choice: str, name: str | None, **options: Any) -> None:
        answered = job_answers.answer(id, choice, name)
        self.report(options, f"{id} {answered}: {choice}", id=str(id), name=answered, value=choice)

    def pause(self, queue: str, **options: Any) -> None:
        self.set_queue(queues.pause, queue, options, "paused")

    def resume(self, queue: str, **options: Any) -> None:
        self.set_queue(queues.resume, queue, options, "resumed")

    def set_queue(self, change: Any, queue: str, options: Any, became: str) -> None:
        try:
            change(queue)
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
        if not bulk_changes.is_queue_used(queue):
            self.stderr.write_plain(
                f"No job is in the queue {queue}, and TASKS does not name it. Is it misspelled?"
            )
        self.report(options, f"Queue {queue} is {became}.", queue=queue, paused=became == "paused")

    def report_bulk(self, change: str, became: str, options: Any, run_at: datetime | None = None) -> None:
        """Change the jobs that the options select, and print how many."""
        changed, found = bulk_changes.change(change, options, user_key_of, run_at)
        skipped = f" {found - changed:,} were skipped." if found > changed else ""
        text = f"{changed:,} {'job' if changed == 1 else 'jobs'} {became}.{skipped}"
        self.report(options, text, changed=changed, skipped=found - changed)

    def report(self, options: Any, text: str, **fields: Any) -> None:
        self.stdout.write(json.dumps(fields) if options["json"] else text)

    def fail_for(self, ids: set[UUID], rule: str) -> None:
        """Raise CommandError with the states of these jobs, if there are any."""
        states = dict(Job.objects.using(database()).filter(pk__in=ids).values_list("pk", "state"))
        if ids:
            listed = ", ".join(f"{id} is {states.get(id, 'unknown')}" for id in sorted(ids))
            raise CommandError(f"{listed}. {rule}")


def job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise ArgumentTypeError(
            f"{text[:100]!r} is not an id. An id is a UUID, as printed by `manage.py notifications jobs list`."
        ) from exc


def run_time(text: str) -> datetime | None:
    """Return a time to come, None for "now"."""
    if text == "now":
        return None
    moment = bulk_changes.read_time(text)
    if moment <= times.now():
        raise ArgumentTypeError(f"{text[:100]} is over. Name a later time, or now.")
    return moment


def user_key_of(username: str) -> Any:
    users = get_user_model()
    try:
        return users._default_manager.get_by_natural_key(username).pk
    except users.DoesNotExist as exc:
        raise CommandError(f"There is no user {username!r}. Check the spelling.") from exc
