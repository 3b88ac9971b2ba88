"""What ``output()`` takes, and from whom."""

import asyncio

from notifications.contrib.output import output
from notifications.contrib.output.api import _warn_of_observed_task
from notifications.jobs.transitions.claims import ClaimedJob
from notifications.worker import Execution
from tests.contrib.output.test_storage import running  # noqa: F401 (a fixture)


class Observed(Execution):
    is_observed = True


def test_output_of_an_observed_task_is_dropped(running, caplog):  # noqa: F811
    """Its execution cannot store output, which the log says once."""

    async def run():
        from notifications.context import set_current_execution

        set_current_execution(Observed(ClaimedJob(running_job), lambda execution: None))
        output("text")
        output("text")

    running_job = running()
    _warn_of_observed_task.cache_clear()
    asyncio.run(run())
    assert caplog.text.count("Dropped output of an observed Celery task") == 1
