"""Workers at full load on SQLite release its lock often enough that no request that writes fails."""

import statistics
import threading
import time
import urllib.request

import pytest

from tests.support.faults.engine import ROUNDS, Engine
from tests.support.waiting import wait_until

JOBS = 20_000 if ROUNDS else 500
CLIENT_COUNT, WORKERS = 4, 2


@pytest.fixture
def engine(site):
    if not site.database_url.startswith("sqlite"):
        pytest.skip("Only SQLite has a single lock.")
    engine = Engine(site, "room", lease=20)
    yield engine
    engine.close()


@pytest.mark.timeout(600)
def test_requests_that_write_never_fail(engine):
    """Clients send requests that write, one after the other, from before the first job until after the last one."""
    engine.site.start_web()
    engine.enqueue("noop", JOBS)
    clients = [WritingClient(engine.site.url) for _ in range(CLIENT_COUNT)]
    wait_until(lambda: all(client.waits for client in clients), what="all clients to write")
    for _ in range(WORKERS):
        engine.site.start_worker()
    started_at = time.monotonic()
    wait_until(
        lambda: not engine.site.rows("SELECT 1 FROM notifications_job WHERE state <> 'succeeded' LIMIT 1"),
        timeout=500,
        every=0.2,
        what="all jobs to be done",
    )
    duration = time.monotonic() - started_at
    failures = [failure for client in clients for failure in client.stop()]
    waits = sorted(wait for client in clients for wait in client.waits)
    percentiles = statistics.quantiles(waits, n=100)
    print(
        f"{JOBS} jobs in {duration:.1f} s beside {len(waits)} requests that write: waits of "
        f"{percentiles[49] * 1000:.0f} ms (p50), {percentiles[98] * 1000:.0f} ms (p99), {waits[-1] * 1000:.0f} ms (max)"
    )
    assert failures == []
    assert "database is locked" not in engine.site.web.output
    engine.wait_until_done()
    engine.assert_no_gap()


class WritingClient:
    """A client that sends one request after the other, and records their durations and failures."""

    def __init__(self, url):
        self.url, self.waits, self.failures = f"{url}/write/", [], []
        self.is_running = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.is_running:
            started = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, data=b"", timeout=60) as response:
                    response.read()
            except OSError as error:
                self.failures.append(repr(error))
            self.waits.append(time.monotonic() - started)

    def stop(self):
        self.is_running = False
        self.thread.join()
        return self.failures
