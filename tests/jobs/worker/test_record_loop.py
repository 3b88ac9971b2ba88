"""Record outcomes in groups, whatever receivers and the database do."""

import json

import pytest
from django.db import DataError, connection, connections, transaction

from notifications.jobs.transitions import recording, running
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded, notification_recording
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.waiting import wait_until


class TestReceivers:
    def test_what_a_receiver_enqueues_is_part_of_the_transaction(self, worker, demo, receive):
        """The notification is there before its number, and the receiver's job is committed with both."""

        def enqueue(sender, notification, job, **kwargs):
            if job.task_path.endswith(".add"):
                assert connection.in_atomic_block or connections["default"].in_atomic_block
                tasks.echo.enqueue(f"mail for {notification.title}")

        receive(notification_recording, enqueue)
        until_done(tasks.add.using(owner=demo, title="Sum").enqueue(1, 2))
        mail = wait_until(lambda: Job.objects.filter(task_path__endswith=".echo", state="succeeded").first())
        assert json.loads(mail.result) == "mail for Sum"

    @pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1)])
    def test_one_that_raises_undoes_only_its_own_work(self, worker, demo, receive, error):
        """The outcome and the notification are recorded, those of its neighbours too."""

        def break_off(sender, notification, job, **kwargs):
            tasks.noop.using(title="never committed").enqueue()
            raise error

        receive(notification_recording, break_off)
        with transaction.atomic():
            results = [tasks.add.using(owner=demo).enqueue(1, number) for number in range(5)]
        assert {job.state for job in until_done(*results)} == {"succeeded"}
        assert len(notifications_of(demo)) == 5
        assert not Job.objects.filter(title="never committed").exists()

    def test_after_the_commit(self, worker, demo, receive):
        """job_finished and notification_recorded see what is committed."""
        seen = []
        receive(job_finished, lambda sender, job, **_: seen.append(("job", Job.objects.get(id=job.id).state)))
        receive(
            notification_recorded,
            lambda sender, notification, **_: seen.append(
                ("notification", Notification.objects.get(id=notification.id).seq)
            ),
        )
        until_done(tasks.noop.using(owner=demo).enqueue())
        wait_until(lambda: len(seen) == 2, what="both signals")
        assert [kind for kind, _ in seen] == ["job", "notification"]
        assert seen[0][1] == "succeeded" and seen[1][1] is not None


class TestTheDatabaseRefuses:
    def test_an_outcome_hurts_only_its_own_job(self, worker, demo, monkeypatch):
        """The group is recorded one by one; the one that is refused becomes a failure that says so."""
        finish = recording.record_outcomes

        def refuse(group):
            if any(outcome.result == '"poison"' for outcome in group):
                raise DataError("the database does not like it")
            return finish(group)

        monkeypatch.setattr(recording, "record_outcomes", refuse)
        with transaction.atomic():
            poison = tasks.echo.using(owner=demo).enqueue("poison")
            others = [tasks.echo.using(owner=demo).enqueue(number) for number in range(20)]
        jobs = until_done(poison, *others)
        assert json.loads(jobs[0].error)["type"] == "result-not-storable"
        assert {job.state for job in jobs[1:]} == {"succeeded"}
        assert len(notifications_of(demo)) == 21

    def test_even_the_failure_is_refused(self, short_intervals, worker, monkeypatch):
        """Then the job waits for its deadline; it is not run again and again, and others go on."""
        finish = recording.record_outcomes

        def refuse(group):
            if any(outcome.job.title == "Poison" for outcome in group):
                raise DataError("the database does not like it")
            return finish(group)

        monkeypatch.setattr(recording, "record_outcomes", refuse)
        poison = tasks.noop.using(title="Poison").enqueue()
        wait_until(lambda: worker.worker._record_loop.unstorable, what="the worker to give it up")
        until_done(*(tasks.noop.enqueue() for _ in range(3)))
        looks = []
        held = running.read_claims
        monkeypatch.setattr(running, "read_claims", lambda worker: looks.append(1) or held(worker))
        wait_until(lambda: len(looks) > 4, what="several looks at the claims")
        job = Job.objects.get(id=poison.id)
        assert (job.state, job.attempt, job.fence) == ("running", 1, 1)


def test_an_outcome_whose_row_is_locked_holds_up_nobody(worker, monkeypatch):
    """Others, at the same time and later, are recorded at once; it is tried again with the next."""
    monkeypatch.setattr("notifications.jobs.worker.record_loop.MAX_RECORD_BATCH", 1)
    monkeypatch.setattr("notifications.jobs.worker.loops.RETRY_INTERVAL_SECONDS", 60)
    finish, tries = recording.record_outcomes, []

    def skip(group):
        if locked and any(outcome.job.title == "Locked" for outcome in group):
            tries.append(1)
            return [], []
        return finish(group)

    locked = True
    monkeypatch.setattr(recording, "record_outcomes", skip)
    result = tasks.noop.using(title="Locked").enqueue()
    wait_until(lambda: tries, what="the outcome to be skipped")
    for _ in range(3):
        until_done(*(tasks.noop.enqueue() for _ in range(3)), timeout=40)
    assert len(tries) < 20
    assert Job.objects.get(id=result.id).state == "running"
    locked = False
    until_done(result, tasks.noop.enqueue(), timeout=40)
