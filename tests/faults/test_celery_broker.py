"""The broker refuses connections or does not answer: requests do not wait for it, and their jobs run when it is back.

FAULT_ROUNDS=1 python -m pytest tests/faults/test_celery_broker.py -s      it is away for a minute, with real intervals
"""

import time
import urllib.request
from statistics import median

import pytest

from tests.support.faults.celery_site import CelerySite, wait_for_worker
from tests.support.faults.engine import ROUNDS

pytestmark = pytest.mark.nightly

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

AWAY_SECONDS = 60 if ROUNDS else 8
#: The maximum time of half of the requests that enqueue a job, and of each: shorter than any timeout of the broker.
MEDIAN_REQUEST_SECONDS, MAX_REQUEST_SECONDS = 1.0, 4.0


@pytest.fixture
def celery_site(site):
    celery_site = CelerySite(site, "celery-broker")
    site.start_web()
    # The workers reach Redis themselves. The server's connections go through the proxy.
    proxied = site.environment["CELERY_BROKER_URL"]
    site.use_celery(celery_site.broker.url)
    wait_for_worker(celery_site.start_celery("--pool", "threads", "--concurrency", "2"))
    site.use_celery(proxied)
    yield celery_site
    celery_site.close()


def enqueue(site):
    """Have a request enqueue a job, and return its id."""
    with urllib.request.urlopen(f"{site.url}/enqueue/", timeout=30) as response:
        return response.read().decode()


def enqueue_for(site, seconds):
    """Enqueue a job every half second, and return the ids. Fail if the requests wait for the broker."""
    until = time.monotonic() + seconds
    ids, durations = [], []
    while time.monotonic() < until:
        started = time.monotonic()
        ids.append(enqueue(site))
        durations.append(time.monotonic() - started)
        time.sleep(0.5)
    print(f"Requests: median {median(durations):.3f} s, at most {max(durations):.3f} s")
    assert median(durations) < MEDIAN_REQUEST_SECONDS and max(durations) < MAX_REQUEST_SECONDS
    return ids


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_jobs_of_an_outage_run_after_it(celery_site, fault):
    """The broker refuses connections, or accepts them and never answers."""
    site = celery_site.site
    celery_site.wait_until_all_done([enqueue(site) for _ in range(3)])
    if fault == "cut":
        celery_site.proxy.cut()
    else:
        celery_site.proxy.stall(new=True)
    ids = enqueue_for(site, AWAY_SECONDS)
    is_run_by_others = {job.id for job in celery_site.jobs() if job.state == "succeeded"}
    celery_site.proxy.restore()
    restored = time.monotonic()
    celery_site.wait_until_all_done([*ids, enqueue(site)])
    print(
        f"{fault} for {AWAY_SECONDS} s: {len(ids)} jobs, of which the worker ran {len(is_run_by_others)}; "
        f"all done {time.monotonic() - restored:.1f} s later"
    )
    celery_site.wait_until_done()
    celery_site.assert_invariants()


@pytest.mark.timeout(300)
def test_outage_of_all_processes(postgres_site):
    """Redis is away for the server and the workers. Its jobs do not wait longer after a longer outage."""
    site = postgres_site
    celery_site = CelerySite(site, "celery-outage")
    try:
        site.start_web()
        celery_site.start_pools()
        celery_site.wait_until_all_done([enqueue(site) for _ in range(3)])
        celery_site.broker.kill()
        ids = enqueue_for(site, AWAY_SECONDS)
        celery_site.broker.start()
        restored = time.monotonic()
        celery_site.wait_until_done()
        print(f"{len(ids)} jobs of {AWAY_SECONDS} s: all done {time.monotonic() - restored:.1f} s later")
        celery_site.assert_invariants()
    finally:
        celery_site.close()
