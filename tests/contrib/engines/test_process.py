"""A process of an engine, which runs jobs for the messages that it gets."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.api import task
from notifications.contrib.engines import process
from notifications.models import Worker as WorkerRow
from tests.contrib.engines.test_worker import enqueue, sent, states, until  # noqa: F401 (a fixture)
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


#: A client that tasks keep, which belongs to the event loop of the first one.
clients = []


@task
async def fetch(url):
    """Return what a server answers. Without a URL, close the client."""
    if not url:
        return await clients.pop().close()
    if not clients:
        clients.append(aiohttp.ClientSession())
    async with clients[0].get(url) as response:
        return await response.text()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


@pytest.fixture
def upstream():
    """The URL of a server that answers "ok"."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class TestProcess:
    @pytest.fixture(autouse=True)
    def short_idle(self, sent, set_bounds, gate):  # noqa: F811
        set_bounds(idle=0.2)
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
            process._end.result(60)
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("notifications-lease")
        ]

    def test_clients_of_tasks_outlast_the_worker(self, upstream):
        """They are made for an event loop, and would fail with "Event loop is closed" on that of the next worker."""
        for url in (upstream, upstream, ""):
            ids = [fetch.enqueue(url).id]
            process.run_waiting("default")
            until(ids, "succeeded")
            wait_until(lambda: not WorkerRow.objects.exists(), what="the row to go")

    def test_worker_that_fails(self):
        """The engine has its message back, and the worker takes the next one."""
        with refused("notifications_worker", times=1, error=ZeroDivisionError) as failed:
            process.run_waiting("default")
        assert failed
        ids = enqueue()
        process.run_waiting("default")
        until(ids, "succeeded")

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
