"""Extensions: what they add to processes and commands."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications import extension, testing
from notifications.extension import Extension, Topic, Upkeep, Where, WorkerPart
from notifications.models import Notification
from notifications.testing import run_jobs
from tests.extension.recorder import finish
from tests.jobs import tasks
from tests.jobs.conftest import LocalWorker, until_done
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.extensions import install

pytestmark = [pytest.mark.nightly_on_postgres, pytest.mark.nightly_on_old_django]


def test_duties(recorder):
    """They are made once for each process, which does them with those of the core, outside of a transaction."""
    process = Upkeep(Where.WORKER, seconds=0)
    assert recorder.names() == ["duties"]
    assert {"number pending changes", "record"} <= {duty.name for duty in process.duties}
    process.run_round()
    process.run_round()
    # Topics are read on a thread of their own.
    assert [call for call in recorder.calls if call[0] == "record"] == [("record", 0, False)] * 2


@pytest.mark.django_db(transaction=True)
def test_dispatch(monkeypatch, user):
    """Jobs of the built-in worker need none. A backend with an engine names the app that has them."""
    monkeypatch.setattr(extension.hooks, "dispatch", extension.Dispatch())
    assert finish(tasks.noop.using(owner=user).enqueue()).state == "succeeded"
    with pytest.raises(
        ImproperlyConfigured, match=r'Add "notifications\.contrib\.engines" to INSTALLED_APPS'
    ):
        extension.hooks.dispatch.require("default")
    assert extension.hooks.dispatch.taken_queues() == {}
    assert extension.hooks.dispatch.label_of("default") == "default"


def test_findings(transactional_db, recorder):
    """After those of the core. An error of the database is one more."""
    findings = doctor()
    checks = [finding["check"] for finding in findings]
    assert checks.index("socket") < checks.index("round trip") < checks.index("record")
    record, error = findings[-2:]
    assert (record["check"], record["message"]) == ("record", "0.1 False")
    assert (error["check"], error["state"]) == ("record", "error") and "no such table" in error["message"]


def test_topics(user, recorder):
    """They are read outside of a transaction. Readers are notified once that something is wrong, and of its end."""
    fields = {"read_readers": lambda: [user.pk], "describe": lambda before: {"title": f"Was {before}"}}
    for state in ("full", "full", ""):
        recorder.returned["topics"] = lambda announced, state=state: [
            Topic(key="disk", state=state, **fields)
        ]
        run_duty("announce problems")
    assert [call for call in recorder.calls if call[0] == "topics"] == [
        ("topics", 0, False),
        ("topics", 1, False),
        ("topics", 1, False),
    ]
    titles = Notification.objects.filter(key="disk").order_by("id").values_list("title", flat=True)
    assert list(titles) == ["Was ", "Was full"]


class CountingPart(WorkerPart):
    """Counts the outcomes that it has held up."""

    def __init__(self, state):
        self.state = state
        self.outcomes, self.has_run, self.has_ended = [], False, False

    async def run(self):
        self.has_run = True
        await super().run()

    async def before_outcome(self, job):
        self.outcomes.append(job.id)

    def end(self):
        self.has_ended = True


def test_a_part_of_a_worker(transactional_db, monkeypatch):
    """It runs as long as the worker, and is asked before each outcome is recorded. Tasks reach it by the label."""
    parts = []

    class Counting(Extension):
        name, label = "notifications.testing", "counting"

        def worker_part(self, state):
            parts.append(CountingPart(state))
            return parts[-1]

    install(monkeypatch, Counting("notifications.testing", testing))
    worker = LocalWorker()
    try:
        (row,) = until_done(tasks.has_part.enqueue("counting"))
    finally:
        worker.stop()
    [part] = parts
    assert row.result == "true"
    assert (part.outcomes, part.has_run, part.has_ended) == ([row.id], True, True)
    tasks.has_part.enqueue("counting")
    run_jobs()
    assert parts[1].state is None and not parts[1].has_run
