"""The contract of engines, for the engine of the docs that starts a process for each message."""

import pytest

from tests.contrib.engines.contract import EngineContract
from tests.docs.test_engines import block_of

pytestmark = [pytest.mark.with_all_apps("the processes are those of the site"), pytest.mark.nightly]


class TestProcessEngine(EngineContract):
    @classmethod
    def start(cls, site, request):
        folder = site.folder / "project"
        for name in ("mysite/engine.py", "mysite/management/commands/run_waiting.py"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # The start of each takes over a second of a core.
            path.write_text(block_of(name).replace("MAX_PROCESSES = 4", "MAX_PROCESSES = 2"))
        for name in ("mysite", "mysite/management", "mysite/management/commands"):
            (folder / name / "__init__.py").touch()
        site.environment |= {
            "TEST_ENGINE": "mysite.engine",
            "EMBEDDED_WORKER": "0",
            "PYTHONPATH": str(folder),
        }
        site.manage("migrate", "--verbosity", "0")
        site.start_web()  # it sends messages for what waits

    @pytest.mark.skip(reason="A process of it ends with its message, and none is there to be stopped.")
    def test_process_that_stops_while_jobs_run(self): ...
