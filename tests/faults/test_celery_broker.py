"""The broker refuses connections or does not answer: requests do not wait for it, and their jobs run when it is back.

FAULT_ROUNDS=1 python -m pytest tests/faults/test_celery_broker.py -s      it is away for a minute, with real intervals
"""

import time
import urllib.request
from statistics import median

import pytest

from tests.faults.support.celery_site import CelerySite, wait_for_workers
from tests.faults.support.engine import ROUNDS
from tests.support.waiting import wait_until

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
    site.use_celery(celery_site.redis.url)
    wait_for_workers(celery_site.start_celery("--pool", "threads", "--concurrency", "2"), 1)
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
        f"{fault} for {AWAY_SECONDS} s: {len(ids)} jobs, of which the worker dispatched {len(is_run_by_others)}; "
        f"all done {time.monotonic() - restored:.1f} s later"
    )
    celery_site.wait_until_done()
    celery_site.assert_invariants()


@pytest.mark.timeout(300)
def test_attempts_during_an_outage_do_not_count(postgres_site):
    """Redis is away for the server and the workers. Its jobs do not wait longer after a longer outage."""
    site = postgres_site
    celery_site = CelerySite(site, "celery-outage", dispatch_seconds=None if ROUNDS else 0.5)
    try:
        site.start_web()
        celery_site.start_pools()
        celery_site.wait_until_all_done([enqueue(site) for _ in range(3)])
        celery_site.redis.kill()
        ids = enqueue_for(site, AWAY_SECONDS)
        dispatch_count = [row["dispatch_count"] for row in celery_site.driver.call("rows", ids=ids)]
        celery_site.redis.start()
        restored = time.monotonic()
        celery_site.wait_until_done()
        print(f"{len(ids)} jobs of {AWAY_SECONDS} s: all done {time.monotonic() - restored:.1f} s later")
        celery_site.assert_invariants()
        # One that is being tried when the rows are read.
        assert max(dispatch_count) <= 1, dispatch_count
    finally:
        celery_site.close()


@pytest.mark.timeout(300)
def test_cancellations_of_an_outage_keep_no_job_from_running(celery_site):
    """A broker that does not answer to a revocation does not stop the thread that sends ids."""
    celery_site.proxy.stall(new=True)
    driver = celery_site.driver
    (id,) = driver.call("enqueue", task="run_async", args=[0])
    driver.call("cancel", id=id)
    celery_site.proxy.restore()

    def is_dispatched_by_driver():
        (other,) = driver.call("enqueue", task="run_async", args=[0])
        celery_site.wait_until_all_done([other])
        (row,) = driver.call("rows", ids=[other])
        return row["dispatch_count"] == 1

    wait_until(is_dispatched_by_driver, what="the driver to reach the broker again")
