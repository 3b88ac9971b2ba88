"""Jobs that Celery's workers run, through RabbitMQ."""

import pytest
from django.db import connections

from notifications.exceptions import TooManyJobs
from notifications.models import Job
from tests.contrib.celery.conftest import fail_at_first
from tests.contrib.celery.test_run import CeleryContract
from tests.support.rabbitmq import START_SECONDS, RabbitMQ
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from kombu import Exchange, Queue

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


@pytest.mark.parametrize("kind", ["direct", "topic", "headers"])
def test_message_that_is_put_back_often(rabbitmq, app, transactional_db, monkeypatch, kind):
    """A quorum queue drops a message that a consumer has returned more often than its limit. A copy is a new one.

    It goes to the queue of the message, not to others that are bound to the same exchange.
    """
    from celery.contrib.testing.worker import start_worker

    exchange, limit = Exchange(kind, type=kind), {"x-queue-type": "quorum", "x-delivery-limit": 1}
    key = "tasks.#" if kind == "topic" else "tasks.add"
    binding = {"x-match": "all", "kind": "export"} if kind == "headers" else None
    queue = Queue(f"of {kind}", exchange, routing_key=key, queue_arguments=limit, binding_arguments=binding)
    other = Queue(f"elsewhere, {kind}", exchange, routing_key=key, binding_arguments=binding)
    with app.connection_for_write(rabbitmq.url) as connection:
        other(connection).declare()
    for name, value in {
        "broker_url": rabbitmq.url,
        "task_queues": [queue],
        "task_default_queue": queue.name,
    }.items():
        monkeypatch.setitem(app.conf, name, value)
    monkeypatch.setitem(vars(app), "amqp", type(app.amqp)(app))  # it has read what others have set
    left = fail_at_first(monkeypatch, TooManyJobs(1), times=4)
    sent = app.send_task(
        "tests.contrib.celery.job_tasks.add",
        (1, 2),
        exchange=exchange,
        routing_key="tasks.add",
        headers={"kind": "export"},
    )
    with start_worker(app, perform_ping_check=False, pool="solo", shutdown_timeout=30):
        job = wait_until(lambda: Job.objects.first(), what="the job")
    assert (job.idempotency_key, left) == (sent.id, [])
    with app.connection_for_write(rabbitmq.url) as connection:
        assert other(connection).queue_declare(passive=True).message_count == 1
    connections.close_all()
