"""Rates beside killed workers, a database that restarts and wrong clocks, by the count of the partner."""

import bisect
import random
import time
from collections import defaultdict

import pytest

from tests.outbound.upstream import Upstream
from tests.support.faults.engine import ROUNDS
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.site import Sites

pytestmark = [pytest.mark.any_database, pytest.mark.nightly]

WINDOW_SECONDS = 60.0
#: Of each of two keys of jobs, and of calls.
JOBS, CALLS = {"rate": "60/m", "burst": 6}, {"rate": "200/m", "burst": 20}
ALLOWED = {"jobs-a": 66, "jobs-b": 66, "calls": 220}
SECONDS = 600 if ROUNDS else 80
ENQUEUE_STARTS = """
from tests.support.faults import rate_tasks
for number in range({count}):
    for key in "ab":
        rate_tasks.start.enqueue(key)
"""
ENQUEUE = """
from tests.support.faults import rate_tasks
for number in range({count}):
    for key in "ab":
        rate_tasks.start.enqueue(key)
    for _ in range(4):
        rate_tasks.call_host.enqueue()
"""


class Partner(Upstream):
    """Notes when it was called for each of its paths."""

    def __init__(self):
        self.calls = defaultdict(list)
        super().__init__()

    async def _handle(self, request):
        self.calls[request.path.strip("/")].append(time.monotonic())
        return await self.ok(request)


@pytest.fixture
def partner():
    partner = Partner()
    yield partner
    partner.close()


@pytest.fixture
def cluster(request):
    if request.config.getoption("database") != "postgres":
        yield None
        return
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.fixture
def rated_site(tmp_path, cluster, partner):
    """A site with more jobs than its limits allow within the test, and a database of its own."""
    site = Sites(tmp_path, cluster).make()
    site.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.support.faults.engine_settings",
        "EMBEDDED_WORKER": "0",
        "TEST_UPSTREAM": str(partner.port),
    }
    site.notifications["RATES"] = {"jobs": JOBS, "calls": {**CALLS, "hosts": [f"127.0.0.1:{partner.port}"]}}
    site.python(ENQUEUE.format(count=SECONDS * 2))
    yield site
    site.close()


def most_in_a_window(moments):
    moments = sorted(moments)
    return max(
        bisect.bisect_left(moments, start + WINDOW_SECONDS) - index for index, start in enumerate(moments)
    )


@pytest.mark.timeout(SECONDS + 300)
def test_killed_workers_and_a_wrong_clock(rated_site, partner, cluster, tmp_path):
    """No window has more than a rate and its burst, whatever is killed; the clock of one worker is an hour ahead."""
    rng = random.Random(7)
    clock = tmp_path / "clock"
    clock.write_text("3600")
    workers = [rated_site.start_worker() for _ in range(3)]
    if cluster:  # on SQLite the clock of the process is that of the database
        rated_site.environment["FAULT_CLOCK"] = str(clock)
        workers.append(rated_site.start_worker())
        del rated_site.environment["FAULT_CLOCK"]
    stop_at, kills = time.monotonic() + SECONDS, 0
    while time.monotonic() < stop_at:
        time.sleep(rng.uniform(2, 6))
        workers.pop(rng.randrange(len(workers))).kill()
        workers.append(rated_site.start_worker())
        kills += 1
        if cluster and kills % 5 == 3:
            cluster.crash()
            cluster.start()
    for worker in workers:
        worker.kill()
    most = {path: most_in_a_window(calls) for path, calls in partner.calls.items()}
    print(
        f"{kills} kills, most in a minute: {most}, all: { {path: len(c) for path, c in partner.calls.items()} }"
    )
    assert all(most[path] <= ALLOWED[path] for path in ALLOWED), most
    # Leases of lost workers last for 2 s or more: the rest of the time is used.
    assert all(len(partner.calls[path]) >= 0.4 * ALLOWED[path] * SECONDS / WINDOW_SECONDS for path in ALLOWED)


@pytest.mark.timeout(SECONDS + 300)
def test_what_waits_uses_the_rate(rated_site, partner):
    """Without faults at least 0.95 of the rates are used while jobs wait."""
    for _ in range(2):
        rated_site.start_worker()
    time.sleep(10)
    before = {path: len(calls) for path, calls in partner.calls.items()}
    started = time.monotonic()
    time.sleep(WINDOW_SECONDS)
    seconds = time.monotonic() - started
    used = {path: (len(partner.calls[path]) - before[path]) / seconds * 60 for path in ALLOWED}
    print(f"used a minute: {used}")
    assert used["jobs-a"] >= 0.95 * 60
    assert used["jobs-b"] >= 0.95 * 60
    assert used["calls"] >= 0.95 * 200
    assert all(most_in_a_window(partner.calls[path]) <= ALLOWED[path] for path in ALLOWED)


@pytest.mark.timeout(SECONDS + 300)
def test_celery_uses_the_rate(rated_site, partner):
    """With processes of Celery in place of workers at least 0.9 of it are used, by jobs alone."""
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    broker = Redis()
    try:
        rated_site.use_celery(broker.url)
        rated_site.python(ENQUEUE_STARTS.format(count=SECONDS * 2))
        for _ in range(2):
            rated_site.start_celery(concurrency=2)
        time.sleep(10)
        before, started = {path: len(calls) for path, calls in partner.calls.items()}, time.monotonic()
        time.sleep(WINDOW_SECONDS)
        seconds = time.monotonic() - started
        used = {
            path: (len(partner.calls[path]) - before[path]) / seconds * 60 for path in ("jobs-a", "jobs-b")
        }
        print(f"used a minute by Celery: {used}")
        assert min(used.values()) >= 0.9 * 60
        assert all(most_in_a_window(partner.calls[path]) <= ALLOWED[path] for path in used)
    finally:
        broker.stop()
