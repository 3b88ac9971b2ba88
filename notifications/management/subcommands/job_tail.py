"""``manage.py notifications jobs tail``: print the changes of jobs of all users."""

from __future__ import annotations

import json
import threading
import time
from argparse import ArgumentParser
from collections import OrderedDict
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import connections

from notifications import times
from notifications.db.sqlstates import is_missing
from notifications.db.transactions import database
from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming.waiting_reasons import why_jobs_wait
from notifications.management.management_command import ManagementCommand
from notifications.management.subcommands.job_lines import (
    change_line,
    error_detail,
    error_texts,
    item,
    read_usernames,
)
from notifications.models import Job
from notifications.realtime import doorbell

#: Seconds between two reads of ``tail`` if no ring comes, and at least.
POLL_INTERVAL_SECONDS, MIN_READ_INTERVAL_SECONDS = 2.0, 0.2
#: Jobs that one read takes at most of each kind: new, running, finished, and active when they were read last.
MAX_JOBS_PER_READ = 500
#: Jobs whose last version is remembered.
MAX_JOBS_REMEMBERED = 20_000
#: Seconds for which the end of a job may be committed late and is found all the same.
COMMIT_SECONDS = 60


class TailCommand(ManagementCommand):
    help = "print each change of a job until Ctrl-C"
    examples = ("tail --queue mail",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queue")
        parser.add_argument("--user", metavar="USERNAME", help="only jobs of this user")

    def handle(self, *args: Any, queue: str | None, user: str | None, **options: Any) -> None:
        key = None if user is None else self.user_key_of(user)
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
        try:
            jobs, is_cut = changes.read()
        except UNAVAILABLE as exc:
            if is_missing(exc):
                raise
            self.stderr.write(f"Could not read the database, trying again: {exc}")
            connections.close_all()
            return
        jobs = [job for job in jobs if queue in (None, job.queue_name) and user in (None, job.user_id)]
        errors, usernames, reasons = {job.id: error_detail(job) for job in jobs}, {}, {}
        # Without them, what was read is printed all the same: it is not read again.
        try:
            reasons = why_jobs_wait(jobs)
            if options["json"]:
                usernames = read_usernames(jobs)
            else:
                errors = error_texts(jobs)
        except UNAVAILABLE as exc:
            self.stderr.write(f"Could not read why jobs wait: {exc}")
        for job in jobs:
            if options["json"]:
                text = json.dumps(item(job, usernames, reasons))
            else:
                text = change_line(job, errors[job.pk], reasons.get(job.pk))
            self.stdout.write_line(text)
        self.stdout.flush()
        if is_cut:
            self.stderr.write_plain("More jobs have changed than were read. Some changes are not shown.")


class JobChanges:
    """Finds the jobs whose rows have changed since the last read. Each read is four queries by indexes."""

    def __init__(self) -> None:
        #: The version of each job that was read, and whether it was done, the latest last.
        self._versions: OrderedDict[UUID, tuple[int, bool]] = OrderedDict()
        self._since = times.now()

    def read(self) -> tuple[list[Job], bool]:
        """Return the changed jobs, in the order of their changes, and whether there may have been more."""
        since, self._since = self._since - timedelta(seconds=COMMIT_SECONDS), times.now()
        rows = Job.objects.using(database()).defer("args", "kwargs", "result")
        limit = MAX_JOBS_PER_READ + 1  # One more shows whether there are more.
        active = islice((id for id, (_, done) in reversed(self._versions.items()) if not done), limit)
        changed: dict[UUID, Job] = {}
        is_cut = False
        for found in (
            rows.order_by("-created_at", "-id")[:limit],
            rows.filter(finished_at__gte=since).order_by("-finished_at")[:limit],
            rows.filter(state=Job.State.RUNNING).order_by("worker", "id")[:limit],
            rows.filter(id__in=list(active)),
        ):
            new = [job for job in found if self._versions.get(job.id, (0, False))[0] != job.version]
            is_cut = is_cut or len(new) > MAX_JOBS_PER_READ
            for job in new[:MAX_JOBS_PER_READ]:
                changed[job.id] = job
                self._remember(job)
        return sorted(changed.values(), key=_changed_at), is_cut

    def _remember(self, job: Job) -> None:
        self._versions[job.id] = (job.version, job.done)
        self._versions.move_to_end(job.id)
        while len(self._versions) > MAX_JOBS_REMEMBERED:
            self._versions.popitem(last=False)


def _changed_at(job: Job) -> tuple[datetime, Any]:
    return max(moment for moment in (job.queued_at, job.started_at, job.finished_at) if moment), job.id
