"""An extension that records the calls of its hooks."""

from datetime import timedelta

from django.core.checks import Info
from django.db import OperationalError, connection

from notifications import testing, times
from notifications.extension import Check, Duty, Extension
from notifications.management import ManagementCommand
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks


class RecordCommand(ManagementCommand):
    help = "record"


class RecordCheck(Check):
    id = "record"

    def __init__(self, record):
        self.record = record

    def topics(self, announced):
        return self.record("topics", announced)

    def find(self, examination):
        yield Info(f"{examination.timeout} {connection.in_atomic_block}")
        raise OperationalError("no such table: record")


class Recorder(Extension):
    """Records the calls of its hooks: name, number of rows, and whether a transaction is open."""

    name = "notifications.testing"
    label = "recorder"
    subcommands = {
        "record": "tests.extension.recorder.RecordCommand",
        "jobs cancel": "tests.extension.recorder.RecordCommand",
    }

    def __init__(self):
        super().__init__(self.name, testing)
        self.calls = []
        self.returned = {}
        self.kept = []

    def _record(self, hook, rows):
        self.calls.append((hook, len(rows), connection.in_atomic_block))
        return self.returned.get(hook, lambda rows: ())(rows)

    def names(self):
        return [hook for hook, _, _ in self.calls if hook != "prepare"]

    def duties(self, process):
        self._record("duties", ())
        return [Duty("record", 0, lambda: self._record("record", ()), is_for_each_process=True)]

    def checks(self):
        return [RecordCheck(self._record)]

    def steps_of(self, job, limit, *, with_results, with_unfinished):
        self.calls.append(("steps_of", job.id, connection.in_atomic_block))
        now = times.now()
        names = self.returned.get("steps", ())
        return [{"name": name, "attempt": 1, "started_at": now, "took": timedelta()} for name in names], len(
            names
        )

    def prepare(self):
        self._record("prepare", ())

    def before_created(self, rows):
        if rows:
            self._record("before_created", rows)

    def on_created(self, rows, tx):
        self.language, self.now = tx.language_of(rows[0]), tx.now
        self.jobs = dict(tx.jobs)
        return self._record("on_created", rows)

    def on_attempts(self, outcomes, tx):
        self.states = [outcome.job.state for outcome in outcomes]
        tx.kept.setdefault(self.label, 0)
        return self._record("on_attempts", outcomes)

    def on_ends(self, outcomes, tx):
        self.states = [outcome.job.state for outcome in outcomes]
        tx.kept[self.label] = len(outcomes)
        return self._record("on_ends", outcomes)

    def on_change(self, change, rows, tx):
        if change == "answered":
            [self.answered] = {(tx.jobs[row.id].id, tx.now) for row in rows}
        if change == "lost":
            assert tx.now - rows[0].lease_until > timedelta(minutes=59)
        if kept := self.returned.get("kept"):
            tx.kept[self.label] = kept
        return self._record(change, rows)

    def last(self, tx):
        self._record("last", ())

    def after_commit(self, kept):
        self.kept.append((kept, connection.in_atomic_block))

    def before_raised(self, rows, tx):
        self.raised = tx.kept[self.label] = tx.now
        self._record("before_raised", rows)
        return [row.id for row in rows if row.key == "stays"]

    def parts_of(self, rows, reader, place):
        self._record(f"parts_of a {place}", rows)
        return self.returned.get("parts", {})


def finish(job):
    """Run jobs, and return this one."""
    run_jobs()
    return Job.objects.get(id=job.id)


def new_job():
    """Return an unsaved job."""
    job = tasks.noop.get_backend().prepare(tasks.noop, [], {})[0]
    job.created_at = job.queued_at = times.now()
    return job
