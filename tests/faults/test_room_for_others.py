"""The engine at full load on SQLite leaves room for ordinary requests that write: none of them fails."""

import statistics
import threading
import time
import urllib.request

import pytest

from tests.faults.support.engine import ROUNDS, Engine
from tests.support.waiting import wait_until

JOBS = 20_000 if ROUNDS else 1_000
PEOPLE, WORKERS = 4, 2


@pytest.fixture
def engine(site):
    if not site.database_url.startswith("sqlite"):
        pytest.skip("It is SQLite that has one lock for all.")
    engine = Engine(site, "room", lease=20)
    yield engine
    engine.close()


@pytest.mark.timeout(600)
def test_requests_that_write_never_fail(engine):
    """People whose requests write, one after the other, from before the first job until after the last one."""
    engine.site.start_web()
    engine.ask("noop", JOBS)
    people = [Person(engine.site.url) for _ in range(PEOPLE)]
    wait_until(lambda: all(person.waits for person in people), what="everybody to write")
    for _ in range(WORKERS):
        engine.site.start_worker()
    busy_since = time.monotonic()
    wait_until(
        lambda: not engine.site.rows("SELECT 1 FROM notifications_job WHERE state <> 'succeeded' LIMIT 1"),
        timeout=500,
        every=0.2,
        what="all jobs to be done",
    )
    busy = time.monotonic() - busy_since
    wrong = [answer for person in people for answer in person.stop()]
    waits = sorted(wait for person in people for wait in person.waits)
    share = statistics.quantiles(waits, n=100)
    print(
        f"{JOBS} jobs in {busy:.1f} s beside {len(waits)} requests that write: waits of "
        f"{share[49] * 1000:.0f} ms (p50), {share[98] * 1000:.0f} ms (p99), {waits[-1] * 1000:.0f} ms at most"
    )
    assert wrong == []
    assert "database is locked" not in engine.site.web.output
    engine.until_done()
    engine.assert_no_hole()


class Person:
    """Sends one request after the other, and keeps how long each took and what went wrong."""

    def __init__(self, url):
        self.url, self.waits, self.wrong = f"{url}/write/", [], []
        self.going = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.going:
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, data=b"", timeout=60) as response:
                    response.read()
            except OSError as error:
                self.wrong.append(repr(error))
            self.waits.append(time.monotonic() - began)

    def stop(self):
        self.going = False
        self.thread.join()
        return self.wrong
