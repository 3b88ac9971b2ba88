"""PostgreSQL is restarted: reports that run are late, and a worker that is started meanwhile waits."""

import time

import pytest

from tests.outbound.upstream import Upstream
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

# Restarts a cluster of its own, whatever the database of the run is.
pytestmark = [pytest.mark.delivery, pytest.mark.timeout(300)]

REPORTS = 4
ASK = """
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
    """Calls end while the database is away, so each report meets it; what was recorded before is not called again."""
    urls = [upstream.url(f"/ok?n={number}") for number in range(5)]
    urls += [upstream.url(f"/slow/{seconds}") for seconds in (6, 6.5, 7, 7.5)]
    site.notifications = {"OUTBOUND_ALLOW": [upstream.address], "OUTBOUND_PER_HOST": 100}
    site.start_worker()
    site.python(ASK.format(reports=REPORTS, urls=urls))
    wait_until(lambda: recorded(site) == 5 * REPORTS, what="the quick calls to be recorded")
    cluster.crash()
    time.sleep(8)  # until all calls have ended: no row says so now
    cluster.start()
    done = "SELECT state FROM notifications_job WHERE state IN ('succeeded', 'failed')"
    wait_until(lambda: len(site.rows(done)) == REPORTS, timeout=60, what="the reports to be done")
    jobs = site.rows("SELECT state, attempt FROM notifications_job")
    assert {state for state, _ in jobs} == {"succeeded"} and max(attempt for _, attempt in jobs) == 2
    assert recorded(site) == len(urls) * REPORTS
    told = site.rows("SELECT body FROM notifications_notification")
    assert told == [(f"{len(urls)} ok.",)] * REPORTS
    assert sum(seen.path.startswith("/ok") for seen in upstream.requests) == 5 * REPORTS


def test_a_worker_that_is_started_meanwhile_waits(site, cluster):
    """`make worker` says so in one line, and works when the database is there."""
    cluster.crash()
    worker = site.start("worker", "manage.py", "work")
    try:
        worker.wait_for_line("Waiting for the database")
    finally:
        cluster.start()
    wait_until(lambda: site.rows("SELECT id FROM notifications_worker"), what="the worker to begin")
    assert "Traceback" not in worker.output
    assert worker.output.count("Waiting for the database") <= 3  # away, starting up, and there
    assert worker.stop() == 0


def recorded(site):
    return site.rows("SELECT COUNT(*) FROM asyncsite_call")[0][0]
