"""Jobs that Celery's workers run."""

import pytest

from tests.jobs.engines.contract import EngineContract
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")


class TestPrefork(EngineContract):
    """Two child processes, through Redis."""

    @classmethod
    def start(cls, site, request):
        site.use_celery(request.getfixturevalue("redis").url)
        site.start_celery()


class TestThreads(EngineContract):
    """Four threads of one process, through Redis."""

    @classmethod
    def start(cls, site, request):
        site.use_celery(request.getfixturevalue("redis").url)
        site.start_celery("--pool", "threads", concurrency=4)

    def restart_after_kill(self, project, path):
        wait_until(lambda: not project.site.processes[-1].running, what="the worker to end")
        project.site.start_celery("--pool", "threads", concurrency=4)
