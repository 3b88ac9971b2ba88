"""A restart of PostgreSQL delays running reports, and a worker that starts meanwhile waits."""

import time

import pytest

from tests.outbound.upstream import Upstream
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

# It restarts its own cluster, whatever the database of the test run is.
pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

REPORTS = 4
ENQUEUE = """
from django.contrib.auth import get_user_model
from asyncsite.tasks import enqueue_report
for _ in range({reports}):
    enqueue_report(get_user_model().objects.get(username="demo"), {urls!r})
"""


@pytest.fixture
def cluster():
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.fixture
def site(cluster, tmp_path):
    site = Sites(tmp_path, cluster).make()
    site.environment["EMBEDDED_WORKER"] = "0"
    yield site
    site.close()


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


def test_a_restart_fails_no_report(site, cluster, upstream):
    """Calls end during the outage, so each job fails once. URLs that were recorded before are not called again."""
    urls = [upstream.url(f"/ok?n={number}") for number in range(5)]
    urls += [upstream.url(f"/slow/{seconds}") for seconds in (6, 6.5, 7, 7.5)]
    site.notifications = {"OUTBOUND_ALLOW": [upstream.address], "OUTBOUND_PER_HOST": 100}
    site.start_worker()
    site.python(ENQUEUE.format(reports=REPORTS, urls=urls))
    wait_until(lambda: recorded(site) == 5 * REPORTS, what="the quick calls to be recorded")
    cluster.crash()
    time.sleep(8)  # Until all calls have ended; no row can show that now.
    cluster.start()
    done = "SELECT state FROM notifications_job WHERE state IN ('succeeded', 'failed')"
    wait_until(lambda: len(site.rows(done)) == REPORTS, timeout=60, what="the reports to be done")
    jobs = site.rows("SELECT state, attempt FROM notifications_job")
    assert {state for state, _ in jobs} == {"succeeded"} and max(attempt for _, attempt in jobs) == 2
    assert recorded(site) == len(urls) * REPORTS
    bodies = site.rows("SELECT body FROM notifications_notification")
    assert bodies == [(f"{len(urls)} of {len(urls)} passed",)] * REPORTS
    assert sum(request.path.startswith("/ok") for request in upstream.requests) == 5 * REPORTS


def test_a_worker_that_starts_during_the_outage_waits(site, cluster):
    """`make worker` prints one line, and runs when the database is back."""
    cluster.crash()
    worker = site.start("worker", "manage.py", "work")
    try:
        worker.wait_for_line("Waiting for the database")
    finally:
        cluster.start()
    wait_until(lambda: site.rows("SELECT id FROM notifications_worker"), what="the worker to begin")
    assert "Traceback" not in worker.output
    assert worker.output.count("Waiting for the database") <= 3  # Away, starting up, and one more in between.
    assert worker.stop() == 0


def recorded(site):
    return site.rows("SELECT COUNT(*) FROM asyncsite_call")[0][0]
