"""A broker that is away or does not answer is given up, and ends no job."""

import threading
from datetime import timedelta

import pytest

from notifications import times
from notifications.models import Notification
from tests.contrib.celery.reconcilers import problem
from tests.support.network import Listener
from tests.support.waiting import wait_until

pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")


def test_a_broker_that_is_away_ends_nothing(reconciler, make_job, monkeypatch, caplog):
    from notifications.contrib.celery import broker

    def away(*args):
        raise OSError("connection refused")

    monkeypatch.setattr(broker, "find_in_workers", away)
    job = make_job(missing_since=times.now() - timedelta(days=1))
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    assert "Could not reconcile observed tasks" in caplog.text


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


@pytest.mark.parametrize("state", ["queued", "running"])
def test_broker_that_does_not_answer_is_given_up(
    silent_app, reconcile, lease, make_job, monkeypatch, caplog, state
):
    """It ends no job, and a round asks it once, not once for each job."""
    monkeypatch.setattr(reconcile, "NO_ANSWER_SECONDS", 0.5)
    jobs = [make_job(state=state) for _ in range(3)]
    reconciler = reconcile.Reconciler(silent_app, "nobody@nowhere", lease)
    reconciler.run_round()
    assert {problem(job) for job in jobs} == {(state, "")}
    assert caplog.text.count("no answer within 0.5 s") == 1
    assert silent_app.server.connected.wait(60)


@pytest.mark.usefixtures("transactional_db")
def test_broker_that_does_not_answer_delays_no_maintenance(silent_app, make_job, user, monkeypatch):
    """The main process numbers notifications, and takes jobs from lost workers, while it waits for the broker."""
    from notifications.contrib.celery import main_process

    monkeypatch.setattr(main_process, "ROUND_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(main_process, "ROUND_JITTER_SECONDS", 0.0)
    make_job()
    process = main_process.MainProcess(silent_app, "nobody@nowhere", ["celery"])
    process.start()
    try:
        assert silent_app.server.connected.wait(60)
        inbox_row = Notification.objects.create(
            user=user, title="Unnumbered", created_at=times.now(), raised=1
        )
        wait_until(lambda: Notification.objects.get(id=inbox_row.id).seq, what="a number")
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
