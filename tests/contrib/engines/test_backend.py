"""Jobs that the workers of other backends of Django's Tasks run: django-tasks-db and django-tasks-rq."""

import re

import pytest

from tests.contrib.engines.contract import EngineContract, ended
from tests.support.waiting import wait_until

pytest.importorskip("django_tasks_db", reason="django-tasks-db is not installed (see requirements-dev.txt).")
pytest.importorskip("django_tasks_rq", reason="django-tasks-rq is not installed (see requirements-dev.txt).")


def start_db_worker(site):
    options = ("--backend", "db", "--queue-name", "*", "--interval", "0.05", "--no-reload")
    return site.start("db_worker", "manage.py", "db_worker", *options, "--no-startup-delay")


def start_rq_worker(site):
    options = ("--job-class", "django_tasks_rq.Job")
    return site.start("rqworker", "manage.py", "rqworker", "default", "slow", "paused", *options)


@pytest.mark.nightly_names(
    *("test_batch_ends_with_its_jobs", "test_concurrency_limit_holds", "test_job_*", "test_output_is_stored"),
    *("test_parents_wait_for_children", "test_process_that_*"),
)
class TestDatabaseBackend(EngineContract):
    """One process of django-tasks-db, which runs one job after another."""

    @classmethod
    def start(cls, site, request):
        site.use_backend("db")
        site.start_web()  # it sends messages for what waits
        start_db_worker(site)

    def restart_ended(self, site):
        if not site.processes[-1].running:
            start_db_worker(site)

    def replace_worker(self, site):
        """It keeps its connection, and fails when it stores that its task has ended."""
        site.processes[-1].stop()
        start_db_worker(site)

    def test_process_that_is_stopped_leaves_no_worker(self, project):
        """It deletes its row, and does not leave that to other processes."""
        ended(project, project.call("enqueue", task="noop"))
        worker = project.site.processes[-1]
        worker.stop()
        start_db_worker(project.site)
        assert "has ended" in worker.output


@pytest.mark.nightly
class TestRQ(EngineContract):
    """Two workers of RQ, which fork a process for each job."""

    broker = "redis"

    @classmethod
    def start(cls, site, request):
        site.use_backend("rq", TEST_RQ_URL=request.getfixturevalue("redis").url)
        site.start_web()
        start_rq_worker(site)
        start_rq_worker(site)

    def restart_ended(self, site):
        """They end with their Redis."""
        running = [each for each in site.processes if each.running and each.log.name.startswith("rqworker")]
        for _ in range(2 - len(running)):
            start_rq_worker(site)

    @pytest.mark.skip(
        reason="A job that waits for others occupies a worker of RQ, and here are two (check I004)."
    )
    def test_parents_wait_for_children(self): ...

    @pytest.mark.parametrize("task", ["parent", "parent_sync"])
    def test_parent_waits_for_its_child(self, project, task):
        """Its process stays until it ends, while the other worker runs the child."""
        (row,) = ended(project, project.call("enqueue", task=f"contrib.engines.tasks.{task}", args=[7]))
        assert (row["result"], row["attempt"]) == ("7", 1)

    def test_processes_leave_no_worker(self, project):
        """Each deletes its row before it exits. Otherwise the row stays until its lease is over."""
        pattern = r"Worker (\S+) runs 1 jobs"
        before = set(re.findall(pattern, project.site.log()))
        for _ in range(5):
            ended(project, project.call("enqueue", task="noop"))

        def has_ended():
            log = project.site.log()
            started = set(re.findall(pattern, log)) - before
            return len(started) >= 3 and started <= set(re.findall(r"Worker (\S+) has ended", log))

        wait_until(has_ended, what="the end of each worker that was started")

    def test_process_ends_with_its_last_job(self, project):
        """It runs the children of its jobs too, and async jobs until they end."""
        (id,) = project.call("enqueue", task="contrib.engines.tasks.enqueue_child")
        (row,) = ended(project, [id])
        ended(project, [row["result"].strip('"')])
