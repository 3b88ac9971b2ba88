"""Alerts of real processes: workers that are killed, stopped or wedged, with and without a web process."""

import pytest

from tests.support.bounds import set_bounds
from tests.support.waiting import wait_until

# Workers and web processes start slowly on a busy machine.
pytestmark = pytest.mark.timeout(600)

LIMITS = {"interval": 0.5, "no_worker": 2, "stalled": 2, "wait": 3600}
TITLES = "SELECT title FROM notifications_notification WHERE category = 'alert' ORDER BY id"


def change():
    """Have alerts be over sooner than in production."""
    from notifications.contrib.operations.alerts import conditions

    conditions.WINDOW_SECONDS = 5.0
    set_bounds(setattr, delays=1.0)


@pytest.fixture
def alerting_site(site):
    """A site with short limits whose jobs run in workers only. Its superuser receives alerts."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.change(__name__)
    site.notifications = {"ALERTS": LIMITS, "LEASE": 8}
    return site


def wait_for_title(site, title):
    wait_until(lambda: (title,) in site.rows(TITLES), what=f"a notification {title!r}", timeout=200)


def assert_notified_once(site, kind, title):
    """Each episode, of which a busy machine may have more than one, was notified once."""
    episodes = site.rows("SELECT closed_at FROM notifications_operations_alert WHERE kind = ?", (kind,))
    titles = [row[0] for row in site.rows(TITLES)]
    assert titles.count(title) == len(episodes)
    assert titles.count(f"Over: {title}") == sum(closed_at is not None for (closed_at,) in episodes)


@pytest.mark.nightly
def test_killed_worker(alerting_site):
    """The workers that remain notify of it once, and once when it is over."""
    victim, _other = alerting_site.start_worker(), alerting_site.start_worker()
    # The row of alerts is inserted by the first evaluation.
    wait_until(
        lambda: alerting_site.rows("SELECT 1 FROM notifications_operations_alertstate"), what="an evaluation"
    )
    victim.kill()
    wait_for_title(alerting_site, "Worker lost")
    wait_for_title(alerting_site, "Over: Worker lost")
    assert_notified_once(alerting_site, "lease", "Worker lost")


@pytest.mark.nightly
def test_no_worker_is_noticed_by_web_processes(alerting_site):
    """Once, until a worker is started."""
    worker = alerting_site.start_worker()
    wait_until(
        lambda: alerting_site.rows("SELECT 1 FROM notifications_operations_alertstate"), what="an evaluation"
    )
    alerting_site.start_web()  # after the worker, or its start may be an episode too
    worker.stop()
    wait_for_title(alerting_site, "No worker")
    alerting_site.start_worker()
    wait_for_title(alerting_site, "Over: No worker")
    assert_notified_once(alerting_site, "no_worker", "No worker")


def test_web_processes_are_listed_while_they_serve(alerting_site):
    """With their row, which a stop deletes."""
    web = alerting_site.start_web()
    rows = "SELECT pid FROM notifications_serverprocess"
    wait_until(lambda: alerting_site.rows(rows) == [(web.pid,)], what="the row of the web process")
    web.stop()
    assert alerting_site.rows(rows) == []
