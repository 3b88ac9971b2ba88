"""The contract of engines, for the built-in worker."""

from tests.jobs.engines.contract import EngineContract
from tests.support.waiting import wait_until


class TestBuiltinWorker(EngineContract):
    @classmethod
    def start(cls, site, request):
        site.environment["EMBEDDED_WORKER"] = "0"
        site.start_worker("--concurrency", "4")

    def restart_after_kill(self, project, path):
        wait_until(lambda: not project.site.processes[-1].running, what="the worker to end")
        project.site.start_worker("--concurrency", "4")
