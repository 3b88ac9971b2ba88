"""The contract of engines, for the built-in worker."""

import pytest

from tests.contrib.engines.contract import EngineContract

pytestmark = pytest.mark.with_all_apps("the processes are those of the site")


@pytest.mark.nightly_names("test_job_that_ends_its_process_spares_its_neighbors", "test_process_that_*")
class TestBuiltinWorker(EngineContract):
    @classmethod
    def start(cls, site, request):
        site.environment["EMBEDDED_WORKER"] = "0"
        site.start_worker("--concurrency", "30")

    def restart_ended(self, site):
        if not site.processes[-1].running:
            site.start_worker("--concurrency", "30")

    def test_doubled_and_late_messages(self):
        """It takes none."""

    @pytest.mark.smoke
    def test_jobs_run_once_and_notify(self, project):
        super().test_jobs_run_once_and_notify(project)
