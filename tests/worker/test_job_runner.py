"""Requeue jobs whose tasks are unknown."""

import importlib
import json
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.models import Job
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.waiting import wait_until


class TestUnknownTasks:
    def test_it_is_requeued(self, worker, user):
        """After half a minute any worker may claim it, for example one with a newer version of the code."""
        before, later = timezone.now(), timezone.now() + timedelta(hours=1)
        result = tasks.noop.using(owner=user, run_after=later).enqueue()
        Job.objects.update(task_path="tests.jobs.tasks.of_tomorrow", run_after=None, due_at=None)
        job = wait_until(
            lambda: Job.objects.filter(run_after__isnull=False).first(), what="the job to be requeued"
        )
        assert (job.state, job.attempt, job.worker) == ("queued", 0, None)
        assert before < job.run_after - timedelta(seconds=30) < timezone.now()
        assert notifications_of(user) == []
        Job.objects.filter(id=result.id).update(
            task_path="tests.jobs.tasks.noop", run_after=timezone.now(), due_at=timezone.now()
        )
        assert until_done(result)[0].attempt == 1

    def test_it_fails_a_day_after_the_first_worker_met_it(self, worker, user):
        """The time that a scheduled job waited before that does not count."""
        before, long_ago = timezone.now(), timezone.now() - timedelta(hours=49)
        later = timezone.now() + timedelta(hours=1)
        result = tasks.noop.using(owner=user, run_after=later).enqueue()
        Job.objects.update(
            task_path="tests.jobs.tasks.of_yesterday",
            created_at=long_ago,
            queued_at=long_ago,
            run_after=None,
            due_at=None,
        )
        job = wait_until(
            lambda: Job.objects.filter(run_after__gt=timezone.now()).first(), what="the job to be requeued"
        )
        assert (job.state, job.attempt) == ("queued", 0)
        assert before < job.fail_if_unknown_after - timedelta(days=1) < timezone.now()
        Job.objects.update(
            run_after=timezone.now() - timedelta(seconds=1), due_at=timezone.now() - timedelta(seconds=1)
        )
        again = wait_until(
            lambda: Job.objects.filter(run_after__gt=timezone.now()).first(), what="the job to be requeued"
        )
        assert (again.fail_if_unknown_after, again.fence) == (job.fail_if_unknown_after, 2)
        past = timezone.now() - timedelta(seconds=1)
        Job.objects.update(fail_if_unknown_after=past, run_after=past, due_at=past)
        (job,) = until_done(result)
        assert json.loads(job.error)["type"] == "unknown-task"
        assert notifications_of(user)[0].body == "No worker knows how to do this."

    def test_a_task_that_can_be_imported_later(self, start_worker, gate, tmp_path, monkeypatch):
        """Its job gets the timeout of the task then."""
        import tests.jobs

        monkeypatch.setattr(tests.jobs, "__path__", [*tests.jobs.__path__, str(tmp_path)])
        start_worker()
        with transaction.atomic():
            result = tasks.noop.enqueue()
            Job.objects.filter(id=result.id).update(task_path="tests.jobs.late_module.patient")
        wait_until(
            lambda: Job.objects.filter(run_after__isnull=False).exists(), what="the job to be requeued"
        )
        (tmp_path / "late_module.py").write_text(
            "from notifications.api import policy, task\n"
            "from tests.jobs import tasks\n"
            "@task\n@policy(timeout=5000)\nasync def patient():\n    return await tasks.hold.func(1)\n"
        )
        importlib.invalidate_caches()
        Job.objects.update(run_after=None, due_at=None)
        wait_until(lambda: tasks.held, what="the job to run")
        job = Job.objects.get()
        assert abs((job.deadline - job.started_at).total_seconds() - 5060) < 20

    @pytest.mark.parametrize(
        "path",
        [
            "nodots",
            "tests.jobs.tasks.words",
            "tests.jobs.broken_module.task",
            "tests.jobs.exiting_module.task",
        ],
    )
    def test_a_path_that_is_not_a_task(self, worker, path, tmp_path, monkeypatch):
        """The job is requeued, also if importing its module raises SystemExit."""
        import tests.jobs

        (tmp_path / "broken_module.py").write_text("raise RuntimeError('at import')")
        (tmp_path / "exiting_module.py").write_text("raise SystemExit(1)")
        monkeypatch.setattr(tests.jobs, "__path__", [*tests.jobs.__path__, str(tmp_path)])
        with transaction.atomic():
            result = tasks.noop.enqueue()
            Job.objects.filter(id=result.id).update(task_path=path)
        job = wait_until(
            lambda: Job.objects.filter(run_after__isnull=False).first(), what="the job to be requeued"
        )
        assert (job.state, job.attempt) == ("queued", 0)
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"

    def test_a_queue_that_was_removed_from_the_settings(self, worker, settings):
        """Its jobs run all the same."""
        with transaction.atomic():
            result = tasks.context_sync.using(queue_name="gone").enqueue()
            settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
        assert until_done(result)[0].state == "succeeded"
