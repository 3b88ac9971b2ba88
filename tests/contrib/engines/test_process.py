"""A process of an engine, which runs jobs for the messages that it gets."""

import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.contrib.engines import process, worker
from notifications.models import Worker as WorkerRow
from tests.contrib.engines.test_worker import enqueue, sent, states, until  # noqa: F401 (a fixture)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class TestProcess:
    @pytest.fixture(autouse=True)
    def short_idle(self, sent, monkeypatch, gate):  # noqa: F811
        monkeypatch.setattr(worker, "IDLE_SECONDS", 0.2)
        yield
        gate.set()
        process.stop(0)
        process._worker, process._is_stopping = None, False

    def test_idle_process(self):
        """It has no row and makes no query, and the next message starts its work again."""
        for _ in range(2):
            ids = enqueue(count=2)
            process.run_waiting("default")
            until(ids, "succeeded")
            wait_until(lambda: not WorkerRow.objects.exists(), what="the row to go")
            process._thread.join(60)
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("notifications-lease")
        ]

    def test_backend_without_an_engine(self):
        with CaptureQueriesContext(connection) as queries:
            process.run_waiting("default", backend="builtin")
            process.run_waiting("default", backend="removed")
        assert len(queries) == 0 and process._worker is None

    def test_message_while_the_process_stops(self):
        ids = enqueue()
        process.stop(0)
        process.run_waiting("default")
        assert states(ids) == ["queued"]
