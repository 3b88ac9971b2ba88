"""Outcomes are recorded in groups, also if receivers raise or the database refuses an outcome."""

import json
from contextlib import ExitStack

from django.db import DataError, transaction

from notifications.jobs.transitions import recording
from notifications.models import Attempt, Job, Notification
from notifications.signals import job_finished, notification_recorded
from tests.contrib.questions import question_tasks
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.statements import preceded, refused
from tests.support.waiting import wait_until

#: Statements: of an end, and of the check of a worker's claims.
ENDS = "UPDATE notifications_job SET .*finished_at"
READS_CLAIMS = 'SELECT "notifications_job"."id".* WHERE .*"worker" = '


class TestReceivers:
    def test_after_the_commit(self, worker, user, connect_receiver):
        """Receivers of job_finished and notification_recorded read the committed rows."""
        received = []
        connect_receiver(
            job_finished, lambda sender, job, **_: received.append(("job", Job.objects.get(id=job.id).state))
        )
        connect_receiver(
            notification_recorded,
            lambda sender, notification, **_: received.append(
                ("notification", Notification.objects.get(id=notification.id).seq)
            ),
        )
        until_done(tasks.noop.using(owner=user).enqueue())
        wait_until(lambda: len(received) == 2, what="both signals")
        assert [kind for kind, _ in received] == ["job", "notification"]
        assert received[0][1] == "succeeded" and received[1][1] is not None


class TestRefusedByTheDatabase:
    def test_an_outcome_fails_only_its_own_job(self, worker, user):
        """The group is recorded one by one, and the refused outcome becomes a failure."""
        with refused(f"{ENDS}.*poison", error=DataError):
            with transaction.atomic():
                poison = tasks.echo.using(owner=user).enqueue("poison")
                others = [tasks.echo.using(owner=user).enqueue(number) for number in range(20)]
            jobs = until_done(poison, *others)
        assert json.loads(jobs[0].error)["type"] == "result-not-storable"
        assert {job.state for job in jobs[1:]} == {"succeeded"}
        assert len(notifications_of(user)) == 21

    def test_a_job_that_was_to_wait_fails(self, worker, user):
        """With an attempt, as each job that fails."""
        with refused("UPDATE notifications_job SET state='waiting'", error=DataError):
            [job] = until_done(question_tasks.ask_sync.using(owner=user).enqueue())
        assert json.loads(job.error)["type"] == "result-not-storable"
        assert Attempt.objects.get(job_id=job.id).outcome == "failed"

    def test_an_outcome_whose_failure_is_refused_too(self, short_intervals, worker, set_bounds):
        """The job stays running, without its slot, and is recorded when the database takes it. Other jobs run."""
        set_bounds(polls=0.1)
        with ExitStack() as faults:
            with transaction.atomic():
                poison = tasks.noop.enqueue()
                id = poison.id.replace("-", "-?")
                tries = faults.enter_context(refused(f"{ENDS}.*{id}", error=DataError))
            wait_until(lambda: len(tries) > 6, what="several tries to record it")
            until_done(*(tasks.noop.enqueue() for _ in range(3)))
            checks = faults.enter_context(preceded(READS_CLAIMS, lambda: None, times=None))
            wait_until(lambda: len(checks) > 4, what="several checks of the claims")
            job = Job.objects.get(id=poison.id)
            assert (job.state, job.attempt, job.fence) == ("running", 1, 1)
        [job] = until_done(poison)
        assert (job.state, job.attempt) == ("succeeded", 1)


def test_an_outcome_whose_row_is_locked_delays_no_other(worker, monkeypatch, set_bounds):
    """Other outcomes are recorded immediately, and each of their groups tries the locked one again."""
    set_bounds(rows=1, polls=60)
    finish, tries = recording.record_outcomes, []

    def skip(group, **options):
        if is_locked and any(outcome.job.title == "Locked" for outcome in group):
            tries.append(1)
            return [], []
        return finish(group, **options)

    is_locked = True
    monkeypatch.setattr(recording, "record_outcomes", skip)
    result = tasks.noop.using(title="Locked").enqueue()
    wait_until(lambda: tries, what="the outcome to be skipped")
    for _ in range(3):
        until_done(*(tasks.noop.enqueue() for _ in range(3)), timeout=40)
    assert len(tries) < 20
    assert Job.objects.get(id=result.id).state == "running"
    is_locked = False
    until_done(result, tasks.noop.enqueue(), timeout=40)
