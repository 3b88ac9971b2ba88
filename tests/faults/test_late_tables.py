"""Tables of an installed app that come later, as in a rolling deploy that starts processes before `migrate` has run."""

import pytest

from tests.support.faults.engine import TIMEOUT_SECONDS, Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_names("*[notifications_deliveries]")

APPS = ["notifications_deliveries", "notifications_operations"]
TASKS = ("wait_for_gate", "wait_for_gate_sync")


@pytest.fixture
def engine(site):
    engine = Engine(site, "late tables")
    yield engine
    engine.close()


def remove_tables(site, label):
    site.manage("migrate", label, "zero", "--verbosity", "0", "--skip-checks")


@pytest.mark.parametrize("label", APPS)
def test_no_job_is_claimed_before_migrate(engine, label):
    remove_tables(engine.site, label)
    worker = engine.start_worker()
    worker.wait_for_line(
        "The worker waits for the database: The tables of the database 'default' are not those"
    )
    jobs = engine.enqueue("work", 3, args=[0.01], user=None)
    worker.wait_until(lambda: engine.site.rows("SELECT 1 FROM notifications_worker"), what="its lease")
    assert {job.state for job in engine.jobs(jobs)} == {"queued"}
    engine.site.manage("migrate", "--verbosity", "0")
    engine.wait_until_started(jobs)
    wait_until(lambda: {job.state for job in engine.jobs(jobs)} == {"succeeded"}, timeout=TIMEOUT_SECONDS)
    assert {job.attempt for job in engine.jobs(jobs)} == {1}


@pytest.mark.parametrize("label", APPS)
def test_jobs_end_without_the_tables(engine, label):
    """Jobs that were claimed before the tables were gone succeed; what the app does at their end follows `migrate`."""
    worker = engine.start_worker()
    jobs = [job for task in TASKS for job in engine.enqueue(task, 3)]
    engine.wait_until_started(jobs)
    remove_tables(engine.site, label)
    engine.open_gate()
    wait_until(lambda: {job.state for job in engine.jobs(jobs)} == {"succeeded"}, timeout=TIMEOUT_SECONDS)
    worker.wait_for_line(f"Hook failed, and is called again later: {label}.")
    assert engine.site.rows("SELECT DISTINCT extension FROM notifications_owedcall") == [(label,)]
    engine.site.manage("migrate", "--verbosity", "0")
    wait_until(lambda: not engine.site.rows("SELECT 1 FROM notifications_owedcall"), timeout=TIMEOUT_SECONDS)
    if label == "notifications_operations":
        counted = "SELECT sum(count) FROM notifications_operations_jobstatistics WHERE period = 1"
        assert engine.site.rows(counted) == [(len(jobs),)]
    assert {(job.state, job.attempt) for job in engine.jobs(jobs)} == {("succeeded", 1)}
    assert len(engine.effects("started", jobs=jobs)) == len(jobs), "A job ran twice."
