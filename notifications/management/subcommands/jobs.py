"""``manage.py notifications jobs``: enqueue, list, show, cancel, retry and reschedule jobs; pause queues."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError

from notifications import times
from notifications.db.keyset import NEWEST_FIRST
from notifications.db.transactions import database
from notifications.jobs.claiming.waiting_reasons import why_jobs_wait
from notifications.jobs.declaring.tasks import has_engine
from notifications.jobs.selection import JobFilter
from notifications.jobs.tags import count_states, read_tags
from notifications.management.management_command import (
    ManagementCommand,
    add_missing,
    refuse_missing,
    with_extensions,
)
from notifications.management.subcommands.job_enqueue import EnqueueCommand
from notifications.management.subcommands.job_lines import (
    describe_history,
    error_detail,
    error_texts,
    history_item,
    item,
    read_usernames,
    reason_text,
    runner_of,
)
from notifications.management.subcommands.job_tail import TailCommand
from notifications.management.subcommands.job_verbs import (
    CancelCommand,
    PauseCommand,
    RescheduleCommand,
    ResumeCommand,
    RetryCommand,
    read_time,
)
from notifications.models import Job
from notifications.states import DONE

#: Jobs that one list shows at most.
MAX_JOBS_LISTED = 1_000_000


class ListCommand(ManagementCommand):
    help = "list jobs, newest first"
    examples = (
        "list --state failed --queue mail --limit 10",
        "list --state failed --finished-since 2026-12-01T06:00",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--state", choices=Job.State.values)
        parser.add_argument("--queue")
        parser.add_argument("--task", metavar="PATH", help="only jobs of this task")
        parser.add_argument("--user", metavar="USERNAME", help="only jobs of this user")
        parser.add_argument("--tag", help="only jobs with this tag")
        help_text = "only those that ended at this time or later, as 2026-12-01T02:00 in TIME_ZONE"
        parser.add_argument("--finished-since", type=read_time, metavar="TIME", help=help_text)
        parser.add_argument("--limit", type=int, default=50, help="jobs to list at most (50)")

    def handle(
        self,
        *args: Any,
        state: str | None,
        queue: str | None,
        task: str | None,
        user: str | None,
        tag: str | None,
        finished_since: datetime | None,
        limit: int,
        **options: Any,
    ) -> None:
        if not 1 <= limit <= MAX_JOBS_LISTED:
            raise CommandError(f"--limit is {limit}. It must be 1 to {MAX_JOBS_LISTED}.")
        conditions = JobFilter(
            state=state or "",
            queue_name=queue or "",
            task_path=task or "",
            user="" if user is None else str(self.user_key_of(user)),
            tag=tag or "",
            finished_from=finished_since,
        )
        rows = conditions.apply(NEWEST_FIRST.sort(Job.objects.using(database())))
        # Few have failed of late, and the newest jobs of a large table may all be others.
        if (finished_since or tag) and (ids := conditions.few_ids()) is not None:
            rows = rows.filter(pk__in=ids)
        jobs = rows[:limit]
        reasons = why_jobs_wait(jobs)
        errors = {} if options["json"] else error_texts(jobs)
        usernames = read_usernames(jobs)
        for job in jobs:
            if options["json"]:
                self.stdout.write(json.dumps(item(job, usernames, reasons)))
                continue
            waits = reason_text(job, reasons.get(job.pk))
            text = " | ".join(filter(None, [job.title, errors[job.pk], waits]))
            # The key of an owner who does not exist.
            owner = "-" if job.user_id is None else usernames.get(job.user_id, f"({job.user_id})")
            self.stdout.write_line(
                f"{job.id}  {job.state:<9}  {job.attempt}/{job.max_attempts}  {owner}  {text}"
            )


class CountCommand(ManagementCommand):
    help = "count the jobs with a tag, by their states"
    examples = ("count --tag import:7",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tag", required=True)
        parser.add_argument("--user", metavar="USERNAME", help="only jobs of this user")

    def handle(self, *args: Any, tag: str, user: str | None, **options: Any) -> None:
        states = count_states(tag, None if user is None else self.user_key_of(user))
        total, done = sum(states.values()), sum(states[state] for state in DONE)
        counts = ", ".join(f"{count:,} {state}" for state, count in states.items() if count)
        text = f"{done:,} of {total:,} jobs are done: {counts}." if total else "No job has this tag."
        self.report(options, text, tag=tag, total=total, done=done, states=states)


class ShowCommand(ManagementCommand):
    help = "show one job, with its arguments, steps, attempts and tracebacks"
    examples = ("show 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=self.job_id)

    def handle(self, *args: Any, id: UUID, **options: Any) -> None:
        job = Job.objects.using(database()).filter(pk=id).first()
        if job is None:
            raise self.no_such_job(id)
        usernames, reasons = read_usernames([job]), why_jobs_wait([job])
        if options["json"]:
            self.stdout.write(json.dumps({**item(job, usernames, reasons), **history_item(job)}))
            return
        facts = {
            "Title": job.title,
            "Task": job.task_path,
            "State": f"{job.state}, attempt {job.attempt} of {job.max_attempts}",
            "Waits": reason_text(job, reasons.get(job.pk)),
            "Error": error_detail(job),
            "User": _describe_user(job, usernames),
            "Queue": f"{job.queue_name}, priority {job.priority}",
            "Concurrency": job.concurrency_key,
            "Tags": ", ".join(read_tags(job.pk)),
            "Runs on": runner_of(job) if has_engine(job.backend) else "",
            "Worker": job.worker,
            "Queued": times.format_time(job.queued_at),
            "Not before": None if job.done else times.format_time(job.run_after),
            "Expires at": times.format_time(job.expiry),
            "Started": times.format_time(job.started_at),
            "Finished": times.format_time(job.finished_at),
            "Cancellation": times.format_time(job.cancel_requested_at),
        }
        for name, value in facts.items():
            if value not in (None, ""):
                self.stdout.write_line(f"{name + ':':<13} {value}")
        for line in describe_history(job):
            self.stdout.write_line(line)


def _describe_user(job: Job, usernames: Mapping[Any, str]) -> str:
    """Return the name and the key of the owner, "" if there is none.

    An owner is not looked up when a job is enqueued, which would cost each a query.
    """
    if job.user_id is None:
        return ""
    name = usernames.get(job.user_id, "no user has this key, so nobody is notified")
    return f"{name} ({job.user_id})"


class JobsCommand(ManagementCommand):
    help = "Enqueue, list, show, follow, cancel, retry and reschedule jobs; pause and resume queues."
    verbs: ClassVar[dict[str, type[ManagementCommand]]] = with_extensions(
        {
            "enqueue": EnqueueCommand,
            "list": ListCommand,
            "show": ShowCommand,
            "count": CountCommand,
            "cancel": CancelCommand,
            "retry": RetryCommand,
            "reschedule": RescheduleCommand,
            "pause": PauseCommand,
            "resume": ResumeCommand,
            "tail": TailCommand,
        },
        below="jobs",
    )
    examples = tuple(chain.from_iterable(verb.examples for verb in verbs.values()))

    def add_arguments(self, parser: ArgumentParser) -> None:
        subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        inherited = [self.common_options()]
        for name, command_class in self.verbs.items():
            command = command_class()
            command.add_arguments(subparsers.add_parser(name, help=command.help, parents=inherited))
        self.add_examples(subparsers)
        for subparser in subparsers.choices.values():
            subparser.add_argument("--json", action="store_true", help="print one JSON object per line")
        add_missing(subparsers, self.verbs, below="jobs")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb not in self.verbs:
            refuse_missing(f"jobs {verb}")
        command = self.verbs[verb]()
        command.stdout, command.stderr, command.style = self.stdout, self.stderr, self.style
        command.handle(*args, **options)
