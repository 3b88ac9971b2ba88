"""Jobs that Celery's workers run, through RabbitMQ."""

import pytest

from tests.contrib.celery.test_run import CeleryContract
from tests.support.rabbitmq import START_SECONDS, RabbitMQ

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

#: One test starts RabbitMQ twice.
pytestmark = [pytest.mark.timeout(2 * START_SECONDS + 480), pytest.mark.nightly]


@pytest.fixture(scope="module")
def rabbitmq():
    server = RabbitMQ()
    yield server
    server.stop()


class TestRabbitMQ(CeleryContract):
    """Two child processes, or threads on SQLite, through RabbitMQ."""

    broker = "rabbitmq"

    @classmethod
    def start(cls, site, request):
        site.use_celery(request.getfixturevalue("rabbitmq").url)
        cls.start_worker(site)
