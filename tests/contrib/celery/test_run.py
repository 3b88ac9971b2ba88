"""Jobs that Celery's workers run."""

import pytest
from django.db import connection

from tests.contrib.engines.contract import EngineContract, ended, states
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")


class CeleryContract(EngineContract):
    """That of Celery's workers, through Redis."""

    broker = "redis"
    takes_all_queues = False
    options = ()
    concurrency = 2

    @classmethod
    def start(cls, site, request):
        site.use_celery(request.getfixturevalue("redis").url)
        cls.start_worker(site)

    @classmethod
    def start_worker(cls, site):
        site.start_celery(*cls.options, concurrency=cls.concurrency)

    def restart_ended(self, site):
        if not site.processes[-1].running:
            self.start_worker(site)


@pytest.mark.nightly_names("test_broker_that_is_away_for_a_minute")
class TestPrefork(CeleryContract):
    """Two child processes."""

    @classmethod
    def start(cls, site, request):
        if connection.vendor == "sqlite":
            pytest.skip(
                "A worker with the pool prefork refuses to start on SQLite. Run with --database postgres."
            )
        super().start(site, request)

    def test_many_async_jobs_run_at_once(self, project):
        """More than there are processes: they share one event loop in each."""
        ids = project.call("enqueue", task="hold", count=12)
        wait_until(lambda: states(project, ids) == ["running"] * 12, what="all jobs to run")
        for id in ids:
            project.call("cancel", id=id)
        assert {row["state"] for row in ended(project, ids)} == {"cancelled"}

    def test_sync_job_occupies_a_process(self, project):
        ids = project.call("enqueue", task="hold_until_cancelled", count=3)
        wait_until(lambda: states(project, ids).count("running") == 2, what="two jobs to run")
        (async_id,) = project.call("enqueue", task="noop")
        assert states(project, ids).count("queued") == 1
        for id in ids:
            project.call("cancel", id=id)
        ended(project, [*ids, async_id])


@pytest.mark.nightly
class TestThreads(CeleryContract):
    """Four threads of one process."""

    options, concurrency = ("--pool", "threads"), 4


@pytest.mark.nightly
class TestSolo(CeleryContract):
    """One sync job at a time, on the main thread of the main process."""

    options, concurrency = ("--pool", "solo"), 1
