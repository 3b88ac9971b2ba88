"""A result backend that does not answer ends no job, and delays nothing else."""

import threading
import uuid

import pytest

from notifications import times
from notifications.models import Job, Notification
from tests.support.network import Listener
from tests.support.waiting import wait_until

pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")


JOB = {
    "executor": "observed",
    "queue_name": "celery",
    "task_path": "shop.tasks.pay",
    "title": "Pay",
    "state": "running",
    "attempt": 1,
    "fence": 1,
}


class SilentServer(Listener):
    """Accepts connections and never answers."""

    def __init__(self):
        self.connected = threading.Event()
        self.connections = []
        super().__init__()

    def serve(self, connection):
        self.connections.append(connection)
        self.connected.set()


@pytest.fixture
def silent_app(celery_app, monkeypatch):
    """An app whose broker and result backend do not answer."""
    import celery

    with SilentServer() as server:
        url = f"redis://{server.address}/0"
        app = celery.Celery("silent", broker=url, backend=url, set_as_current=False)
        app.server = server
        yield app
        for connection in server.connections:
            connection.close()


@pytest.mark.usefixtures("transactional_db")
def test_result_backend_that_does_not_answer_delays_no_maintenance(silent_app, user, monkeypatch):
    """The main process numbers notifications, and takes jobs from lost workers, while it waits."""
    from notifications.contrib.celery import main_process

    monkeypatch.setattr(main_process, "LOST_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(main_process, "LOST_JITTER_SECONDS", 0.0)
    lost = Job.objects.create(
        **JOB, user=user, worker=uuid.uuid4(), created_at=times.now(), queued_at=times.now()
    )
    process = main_process.MainProcess(silent_app, "nobody@nowhere", ["celery"])
    monkeypatch.setattr(process.lease, "may_reap", lambda: True)
    process.start()
    try:
        assert silent_app.server.connected.wait(60)
        inbox_row = Notification.objects.create(
            user=user, title="Unnumbered", created_at=times.now(), raised=1
        )
        wait_until(lambda: Notification.objects.get(id=inbox_row.id).seq, what="a number")
        lost.refresh_from_db()
        assert lost.state == "running"
    finally:
        process.stop()


def test_broadcast_uses_no_connection_of_celerys_pool(celery_app, monkeypatch):
    """Those wait for ever."""
    from notifications.contrib.celery import connections

    def acquire(*args, **kwargs):
        raise AssertionError("A connection of the pool was used.")

    monkeypatch.setattr(type(celery_app.amqp.producer_pool), "acquire", acquire)
    monkeypatch.setattr(type(celery_app.pool), "acquire", acquire)
    assert connections.broadcast(celery_app, "query_task", {"ids": ["x"]}, reply=True, timeout=0.1) == []
