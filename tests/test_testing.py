"""notifications.testing, as projects use it in their tests."""

import pytest
from django.contrib.auth import get_user_model
from django.test import TestCase

from notifications.models import Job, Notification, Stream, Worker
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.jobs import tasks


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

    def test_what_a_job_tells_somebody_has_its_number_too(self):
        """notify() puts its number off to the end of the transaction, which here never comes."""
        tasks.notify_somebody.enqueue(self.demo.pk)
        run_jobs()
        self.assertEqual(Notification.objects.get().seq, 1)
        self.assertEqual(Stream.objects.get(user=self.demo).unread, 1)

    def test_rings_come_with_the_commit(self):
        heard = []

        def hear(users, **kwargs):
            heard.extend(users)

        rung.connect(hear)
        self.addCleanup(rung.disconnect, hear)
        with self.captureOnCommitCallbacks(execute=True):
            tasks.noop.using(owner=self.demo).enqueue()
            run_jobs()
            self.assertEqual(heard, [])
        self.assertIn(self.demo.pk, heard)

    def test_failures_do_not_raise(self):
        for task in (tasks.fail, tasks.fail_sync, tasks.slow):
            task.enqueue()
        self.assertEqual(run_jobs(), 3)
        self.assertEqual(set(Job.objects.values_list("state", flat=True)), {"failed"})

    def test_children_run_too(self):
        tasks.ask_child.enqueue()
        tasks.ask_child_sync.enqueue()
        self.assertEqual(run_jobs(), 4)

    def test_jobs_that_enqueue_one_another_for_ever(self):
        tasks.enqueue_for_ever.enqueue()
        with self.assertRaisesMessage(
            RuntimeError, "5 jobs have run and there are more. Do they enqueue one another for ever?"
        ):
            run_jobs(limit=5)
        self.assertEqual(Job.objects.filter(state="succeeded").count(), 5)
        self.assertEqual(list(Job.objects.filter(state="queued").values_list("attempt", flat=True)), [0])

    def test_async_tasks_see_the_rows_of_the_test(self):
        """Their database work is done on the connection of the test."""
        result = tasks.count_users_async.enqueue()
        run_jobs()
        result.refresh()
        self.assertEqual(result.return_value, 1)

    def test_progress_is_kept(self):
        tasks.count.enqueue(3)
        run_jobs()
        self.assertEqual(Job.objects.get().progress_current, 3)

    def test_a_task_that_is_not_there(self):
        """In a test that is a mistake, so it is raised."""
        tasks.noop.enqueue()
        Job.objects.update(task_path="tests.jobs.tasks.gone")
        with self.assertRaises(ImportError):
            run_jobs()


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction():
    demo = get_user_model().objects.create_user("demo")
    tasks.noop.using(owner=demo).enqueue()
    assert run_jobs() == 1
    assert Notification.objects.get().seq is not None


def test_it_can_be_imported_before_the_models_are_there():
    """Modules of tests are collected at any time."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", "import notifications.testing, notifications.api"], check=True)
