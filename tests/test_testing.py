"""notifications.testing, as the tests of projects use it."""

import subprocess
import sys
from contextlib import nullcontext, suppress
from datetime import timedelta
from unittest import mock
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, override_settings
from django.utils import timezone

from notifications.api import batch, join, notify, task
from notifications.contrib.deliveries import preferences
from notifications.contrib.deliveries.testing import send_deliveries
from notifications.contrib.questions.testing import answer_question
from notifications.management import pause_queue
from notifications.models import Attempt, Epoch, Job, Notification, Stream, Worker
from notifications.signals import rung
from notifications.streams.marking_seen import mark_seen
from notifications.testing import (
    capture_notifications,
    clock,
    connect,
    run_jobs,
    run_until_idle,
)
from tests.contrib.engines import recording_engine
from tests.contrib.questions import question_tasks
from tests.jobs import tasks
from tests.support.statements import preceded

pytestmark = pytest.mark.nightly_on_postgres


@task
def enqueue_itself():
    enqueue_itself.enqueue()


@task
def wait_for_later():
    return join(tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue())


@task
def join_failing():
    return join(tasks.fail.enqueue())


@task
def insert_twice(way):
    """Insert two rows with one key. The error is raised, ignored, or that of a transaction of the task."""
    Epoch.objects.create(id=7, value=uuid4())
    if way == "in a transaction":
        with transaction.atomic():
            Epoch.objects.create(id=7, value=uuid4())
    with suppress(IntegrityError) if way == "ignored" else nullcontext():
        if way == "SQL":
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO notifications_epoch SELECT * FROM notifications_epoch")
        Epoch.objects.create(id=7, value=uuid4())


@task
def insert_and_fail():
    Epoch.objects.create(id=7, value=uuid4())
    raise ValueError


@task
async def insert_twice_on_the_loop():
    await sync_to_async(insert_twice.func)("raised")


@override_settings(
    NOTIFICATIONS={
        "SITE_URL": "https://site.example",
        "DELIVERY": {"quiet": [], "*": [{"email": 600}]},
        "CATEGORIES": {"report": {"default": {"email": "daily"}}, "security": {"required": True}},
    }
)
class SendDeliveriesTests(TestCase):
    """In a TestCase, whatever their times are."""

    @classmethod
    def setUpTestData(cls):
        cls.demo = get_user_model().objects.create_user("demo", email="demo@users.example")

    def test_it_sends_what_waits_once(self):
        notify(self.demo, "Export ready", url="/exports/1/")
        notify(self.demo, "Quiet", category="quiet")
        before = clock.now()
        self.assertEqual([send_deliveries(), send_deliveries()], [1, 0])
        (email,) = mail.outbox
        self.assertEqual((email.subject, email.to), ("Export ready", ["demo@users.example"]))
        self.assertLess(clock.now() - before, timedelta(minutes=5))

    def test_what_was_read_is_not_sent(self):
        notify(self.demo, "Export ready")
        Notification.objects.update(read_at=timezone.now())
        self.assertEqual((send_deliveries(), mail.outbox), (0, []))

    def test_digests_messages_and_pauses_end(self):
        for title in ("First", "Second", "Third"):
            notify(self.demo, title)
        for title in ("Report 1", "Report 2"):
            notify(self.demo, title, category="report")
        notify(self.demo, "Password changed", category="security")
        preferences.change_reader(self.demo.pk, paused_until=timezone.now() + timedelta(days=2))
        self.assertEqual(send_deliveries(), 6)
        subjects = ["First", "Password changed", "Report 2 and 1 more", "Third and 1 more"]
        self.assertEqual(sorted(email.subject for email in mail.outbox), subjects)

    def test_other_jobs_do_not_run(self):
        later = tasks.noop.using(run_after=timezone.now() + timedelta(seconds=60)).enqueue()
        tasks.noop.enqueue()
        notify(self.demo, "Export ready")
        send_deliveries()
        self.assertEqual(
            {job.state for job in Job.objects.filter(task_path=tasks.noop.module_path)}, {"queued"}
        )
        self.assertEqual(later.status.name, "READY")

    def test_it_raises_what_fails(self):
        notify(self.demo, "Export ready")
        render = mock.patch("django.template.backends.django.Template.render", side_effect=KeyError("total"))
        with render, self.assertRaisesRegex(Exception, "The e-mail cannot be made: KeyError: 'total'"):
            send_deliveries(raise_errors=True)


class RunJobsTests(TestCase):
    """In a TestCase: on the connection of the test, inside its transaction."""

    @classmethod
    def setUpTestData(cls):
        cls.demo = get_user_model().objects.create_user("demo")

    def test_nothing_to_do(self):
        self.assertEqual(run_jobs(), 0)

    def test_outcome_notification_and_numbers(self):
        """All that a worker would have recorded is there when it returns."""
        result = tasks.count_users.using(owner=self.demo).enqueue()
        self.assertEqual(run_jobs(), 1)
        result.refresh()
        self.assertEqual(result.return_value, 1)
        job, note = Job.objects.get(), Notification.objects.get()
        self.assertEqual(sorted([job.seq, note.seq]), [1, 2])
        stream = Stream.objects.get(user=self.demo)
        self.assertEqual((stream.head, stream.unread), (2, 1))
        self.assertFalse(Worker.objects.exists())

    def test_jobs_of_engines(self):
        """They run without a broker."""
        backend = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}
        engine = {"OPTIONS": {"engine": "tests.contrib.engines.recording_engine"}}
        recording_engine.messages.clear()
        with self.settings(TASKS={"default": backend | engine}):
            tasks.noop.enqueue()
            tasks.noop.using(concurrency_key="one").enqueue()
            tasks.busy.enqueue(1, 5)
            tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
            executors = set(Job.objects.values_list("executor", flat=True))
            self.assertEqual(executors, {"async"})
            self.assertEqual(run_jobs(), 3)
            self.assertEqual(run_until_idle(), 2)
        self.assertEqual(set(Job.objects.values_list("state", flat=True)), {"succeeded"})
        self.assertEqual(recording_engine.messages, [])

    def test_questions(self):
        """A job waits for its answer, and goes on with it; both are in the transaction of the test."""
        for asking in (question_tasks.ask, question_tasks.ask_sync):
            result = asking.using(owner=self.demo).enqueue()
            run_jobs()
            self.assertEqual(Job.objects.get(pk=result.id).state, "waiting")
            self.assertEqual(Stream.objects.get(user=self.demo).unread, 1)
            answer_question("yes", by=self.demo)
            run_jobs()
            result.refresh()
            self.assertEqual(result.return_value, "yes")
            Notification.objects.all().delete()
            Stream.objects.all().delete()

    def test_notifications_of_tasks_are_numbered(self):
        """notify() numbers after the commit, which a TestCase never reaches."""
        tasks.notify_user.enqueue(self.demo.pk)
        run_jobs()
        self.assertEqual(Notification.objects.get().seq, 1)
        self.assertEqual(Stream.objects.get(user=self.demo).unread, 1)

    def test_jobs_that_the_end_of_an_empty_batch_enqueues(self):
        handlers = {"job.succeeded": ["tests.jobs.tasks.echo"]}
        with self.settings(NOTIFICATIONS={**settings.NOTIFICATIONS, "HANDLERS": handlers}):
            with batch(owner=self.demo):
                pass
            self.assertEqual(run_jobs(), 1)

    def test_rings_are_sent_at_the_commit(self):
        users_rung = []

        def receive(users, **kwargs):
            users_rung.extend(users)

        rung.connect(receive)
        self.addCleanup(rung.disconnect, receive)
        with self.captureOnCommitCallbacks(execute=True):
            tasks.noop.using(owner=self.demo).enqueue()
            run_jobs()
            self.assertEqual(users_rung, [])
        self.assertIn(self.demo.pk, users_rung)

    def test_failures_do_not_raise(self):
        for failing in (tasks.fail, tasks.fail_sync, tasks.slow):
            failing.enqueue()
        self.assertEqual(run_jobs(), 3)
        self.assertEqual(set(Job.objects.values_list("state", flat=True)), {"failed"})

    def test_children_run_too(self):
        tasks.ask_child.enqueue()
        tasks.ask_child_sync.enqueue()
        self.assertEqual(run_jobs(), 4)

    def test_jobs_that_enqueue_one_another_without_end(self):
        enqueue_itself.enqueue()
        with self.assertRaisesMessage(
            RuntimeError, "5 jobs have run and there are more. Do they enqueue one another without end?"
        ):
            run_jobs(limit=5)
        self.assertEqual(Job.objects.filter(state="succeeded").count(), 5)
        self.assertEqual(list(Job.objects.filter(state="queued").values_list("attempt", flat=True)), [0])

    def test_async_tasks_see_the_rows_of_the_test(self):
        """Their queries use the connection of the test."""
        result = tasks.count_users_async.enqueue()
        run_jobs()
        result.refresh()
        self.assertEqual(result.return_value, 1)

    def test_progress_is_kept(self):
        tasks.count.enqueue(3)
        run_jobs()
        self.assertEqual(Job.objects.get().progress_current, 3)

    def test_an_unknown_task_raises(self):
        """A worker would requeue the job, but in a test it is a mistake."""
        tasks.noop.enqueue()
        Job.objects.update(task_path="tests.jobs.tasks.gone")
        with self.assertRaises(ImportError):
            run_jobs()


class BrokenTransactionTests(TestCase):
    """Queries of a job fail inside the transaction of the test, which the outcomes of jobs are written in too."""

    def test_a_constraint_that_a_task_violates(self):
        """The job ends as with a worker, and the next one runs."""
        ways = {"raised": "failed", "ignored": "succeeded", "in a transaction": "failed", "SQL": "failed"}
        jobs = {way: insert_twice.enqueue(way).id for way in ways}
        jobs["async"] = insert_twice_on_the_loop.enqueue().id
        last = tasks.noop.enqueue().id
        self.assertEqual(run_jobs(), 6)
        states = {way: Job.objects.get(id=id).state for way, id in jobs.items()}
        self.assertEqual(states, {**ways, "async": "failed"})
        self.assertEqual(Job.objects.get(id=last).state, "succeeded")

    def test_the_error_of_such_a_task_is_raised(self):
        insert_twice.enqueue("raised")
        with self.assertRaises(IntegrityError):
            run_jobs(raise_errors=True)
        self.assertEqual(Job.objects.get().state, "failed")

    def test_rows_of_a_task_that_fails_otherwise_stay(self):
        """As with a worker, which has no transaction around a task."""
        insert_and_fail.enqueue()
        run_jobs()
        self.assertEqual(Job.objects.get().state, "failed")
        self.assertTrue(Epoch.objects.filter(id=7).exists())


class RaiseErrorsTests(TestCase):
    def test_the_error_of_a_task_is_raised(self):
        """After the outcome is recorded. The next job is still queued."""
        failed, waiting = tasks.fail.enqueue("It is broken"), tasks.noop.enqueue()
        with pytest.raises(ValueError, match="It is broken") as caught:
            run_jobs(raise_errors=True)
        self.assertEqual(caught.traceback[-1].name, "fail")
        self.assertEqual(Job.objects.get(id=failed.id).state, "failed")
        self.assertEqual(Job.objects.get(id=waiting.id).state, "queued")
        self.assertEqual(run_jobs(raise_errors=True), 1)

    def test_an_attempt_that_is_retried_does_not_raise(self):
        tasks.busy.enqueue(1)
        self.assertEqual(run_until_idle(raise_errors=True), 2)

    def test_the_error_of_a_child(self):
        """The exception of the child is raised, not that of the parent that waits for it."""
        join_failing.enqueue()
        with self.assertRaisesMessage(ValueError, "It is broken"):
            run_jobs(raise_errors=True)
        self.assertEqual(Job.objects.filter(state="failed").count(), 2)

    def test_a_result_that_cannot_be_stored(self):
        tasks.not_json.enqueue("nan")
        with self.assertRaises(ValueError):
            run_jobs(raise_errors=True)


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction(user):
    tasks.noop.using(owner=user).enqueue()
    assert run_jobs() == 1
    assert Notification.objects.get().seq is not None


def test_it_can_be_imported_before_the_models_are_ready():
    """pytest imports test modules before django.setup() in some projects."""
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import notifications.testing, notifications.api, notifications.pytest_plugin",
        ],
        check=True,
    )


class RunUntilIdleTests(TestCase):
    """It advances the clock to delayed jobs and retries."""

    def test_delayed_jobs(self):
        later = timezone.now() + timedelta(days=2)
        last = tasks.noop.using(run_after=later + timedelta(days=1)).enqueue()
        first = tasks.noop.using(run_after=later).enqueue()
        self.assertEqual(run_jobs(), 0)
        self.assertEqual(run_until_idle(), 2)
        first, last = Job.objects.get(id=first.id), Job.objects.get(id=last.id)
        self.assertEqual((first.state, last.state), ("succeeded", "succeeded"))
        self.assertLessEqual(later, first.started_at)
        self.assertLess(first.started_at, last.started_at)
        self.assertEqual(clock.ahead, timedelta())

    def test_retries(self):
        """A job that fails each time has as many attempts as its policy allows."""
        result = tasks.busy.enqueue(9)
        first = run_jobs()  # The pause before the next attempt may be shorter than this takes.
        self.assertLess(first, 4)
        self.assertEqual(first + run_until_idle(), 4)
        self.assertEqual(Job.objects.get(id=result.id).state, "failed")
        self.assertEqual(Attempt.objects.count(), 4)

    def test_a_job_that_becomes_due_after_the_claim(self):
        """The next job is looked for after the last claim has found none."""
        tasks.noop.using(run_after=clock.now() + timedelta(seconds=30)).enqueue()
        with preceded("seq IS NULL", lambda: clock.advance(60)):
            self.assertEqual(run_until_idle(), 1)

    def test_jobs_of_a_paused_queue_are_not_run(self):
        with self.captureOnCommitCallbacks(execute=True):
            pause_queue("default")
        tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
        tasks.noop.enqueue()
        self.assertEqual(run_until_idle(), 0)

    def test_the_limit_of_jobs(self):
        enqueue_itself.enqueue()
        with self.assertRaisesMessage(RuntimeError, "5 jobs have run and there are more."):
            run_until_idle(limit=5)


class ClockTests(TestCase):
    def tearDown(self):
        clock.reset()

    def test_advance_makes_jobs_due(self):
        tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
        clock.advance(3_590)
        self.assertEqual(run_jobs(), 0)
        clock.advance(timedelta(seconds=20))
        self.assertEqual(run_jobs(), 1)
        self.assertLess(abs(clock.now() - timezone.now() - timedelta(seconds=3_610)), timedelta(minutes=5))


class JoinTests(TestCase):
    """When a job waits for another job, that one runs meanwhile."""

    def test_parents(self):
        for parent in (tasks.parent, tasks.parent_sync, tasks.parent_sync_of_sync):
            with self.subTest(parent.name):
                results = [parent.enqueue(number) for number in range(5)]
                self.assertEqual(run_jobs(), 10)
                values = [join(result) for result in results]
                more = parent is tasks.parent_sync_of_sync
                self.assertEqual(values, [number + more for number in range(5)])

    def test_generations(self):
        self.assertEqual(join(self._run(tasks.generations.enqueue(4))), 4)

    def test_a_batch_in_a_job(self):
        from tests.jobs import tasks

        counts = join(self._run(tasks.batch_in_a_job.enqueue(3)))
        self.assertEqual(counts, {"succeeded": 3, "failed": 0, "cancelled": 0})

    def test_waiting_for_a_job_that_is_not_due(self):
        """The waiting job fails with an explanation."""
        result = self._run(wait_for_later.enqueue())
        result.refresh()
        self.assertEqual(result.status, "FAILED")
        self.assertIn("which is not due, is held back, or waits for that job", result.errors[0].traceback)

    def _run(self, result):
        run_jobs()
        return result


class CaptureTests(TestCase):
    def test_notifications_inside_the_block(self):
        demo, other = (get_user_model().objects.create_user(name) for name in ("demo", "other"))
        notify(demo, "Before")
        with capture_notifications() as all_users, capture_notifications(other) as mine:
            notify(demo, "Inside")
            notify(other, "Mine")
            self.assertEqual(all_users, [])
        notify(demo, "After")
        self.assertEqual([note.title for note in all_users], ["Inside", "Mine"])
        self.assertEqual([(note.title, note.user_id) for note in mine], [("Mine", other.pk)])


class ConnectTests(TestCase):
    def test_connect_is_refused_in_a_test_case(self):
        demo = get_user_model().objects.create_user("demo")
        with self.assertRaisesMessage(RuntimeError, "connect() needs a TransactionTestCase"), connect(demo):
            pass


def test_a_client_receives_changes(transactional_db, user):
    """Earlier and new notifications, the unread count, and the progress of a job until it is done."""
    notify(user, "Before")
    with connect(user) as client:
        assert [item["title"] for item in client.notifications.values()] == ["Before"]
        assert client.unread == 1
        notify(user, "Now")
        item = client.notification("Now")
        assert (item["level"], client.unread, client.unseen, client.seq) == ("info", 2, 2, 2)
        mark_seen(user.pk, 2)
        assert client.until(lambda client: client.unseen == 0)
        assert (client.unread, client.seq) == (2, 3)
        with batch(owner=user, title="Many") as b:
            for _ in range(3):
                tasks.noop.enqueue()
        assert client.until(lambda client: client.jobs.get(str(b.id)))["progress"]["total"] == 3
        run_jobs()
        assert client.done(b)["progress"] == {"current": 3, "total": 3, "message": ""}
        assert client.notification("Many")["job"] == str(b.id)


async def test_a_client_in_async_code(event_loop_database, user):
    from asgiref.sync import sync_to_async

    async with connect(user.pk) as client:
        await sync_to_async(notify)(user, "Now")
        assert await client.auntil(lambda client: client.unread) == 1


def test_many_frames(connect_client, user):
    """More than the window of unacknowledged frames: the client acknowledges them."""
    client = connect_client(user)
    for number in range(200):
        notify(user, f"{number}")
    client.until(lambda client: client.seq == 200)
    assert [item["title"] for item in client.notifications.values()] == [f"{n}" for n in range(200)]


def test_a_timeout_names_what_was_received(connect_client, user):
    client = connect_client(user)
    with pytest.raises(
        AssertionError, match=r"^The condition was not met within 0.1 s. Received were the notifications \[\]"
    ):
        client.notification("Never", timeout=0.1)


def test_an_inactive_user_is_disconnected(transactional_db, user):
    user.is_active = False
    with pytest.raises(AssertionError, match=r"The connection has ended: closed with 4401"), connect(user):
        pass


def test_the_fixtures(run_jobs, run_until_idle, jobs_clock, capture_notifications, user):
    """The plugin has the functions of the module."""
    tasks.noop.using(owner=user).enqueue()
    tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    tasks.noop.using(run_after=timezone.now() + timedelta(days=9)).enqueue()
    with capture_notifications(user) as notifications:
        assert run_jobs() == 1
    assert len(notifications) == 1
    jobs_clock.advance(timedelta(days=2))
    assert run_jobs() == 1
    assert run_until_idle() == 1
    assert jobs_clock.ahead == timedelta(days=2)


def test_the_clock_is_reset_after_each_test():
    assert clock.ahead == timedelta()


@pytest.mark.django_db(transaction=True)
def test_run_jobs_outside_a_transaction():
    """Like a worker it runs only jobs that were committed."""
    with transaction.atomic():
        tasks.noop.enqueue()
        transaction.set_rollback(True)
    assert run_jobs() == 0
