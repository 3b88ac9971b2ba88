"""Jobs that Celery's workers run, through RabbitMQ."""

import pytest

from tests.contrib.engines.contract import EngineContract, ended
from tests.support.rabbitmq import START_SECONDS, RabbitMQ

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

#: One test starts RabbitMQ twice.
pytestmark = pytest.mark.timeout(2 * START_SECONDS + 480)

#: After this time a job has ended whose message RabbitMQ lost: others follow within some seconds.
LOST_MESSAGE_SECONDS = 240


@pytest.fixture(scope="module")
def rabbitmq():
    server = RabbitMQ()
    yield server
    server.stop()


class TestRabbitMQ(EngineContract):
    """Two child processes, through RabbitMQ."""

    @classmethod
    def start(cls, site, request):
        site.use_celery(request.getfixturevalue("rabbitmq").url)
        site.start_celery()

    def restart_ended(self, site):
        """On SQLite it has threads in place of child processes, and ends with the job that ends its process."""
        if not site.processes[-1].running:
            site.start_celery()

    def test_jobs_run_after_a_kill_of_the_broker(self, project, rabbitmq):
        """Those that were queued before it, while it is away, and after it."""
        project.call("pause", queue="slow")
        ids = project.call("enqueue", task="echo", args=[1], count=5, queue_name="slow")
        rabbitmq.kill()
        ids += project.call("enqueue", task="echo", args=[2], count=5)
        rabbitmq.start()
        project.call("resume", queue="slow")
        ids += project.call("enqueue", task="echo", args=[3], count=5)
        rows = ended(project, ids, timeout=LOST_MESSAGE_SECONDS)
        assert [row["result"] for row in rows] == ["1"] * 5 + ["2"] * 5 + ["3"] * 5
        assert {row["attempt"] for row in rows} == {1}
