"""A hook of an extension raises for seconds while jobs end, with another worker beside."""

import time

import pytest

from tests.faults.support.engine import Engine
from tests.support.waiting import wait_until

#: Jobs that end meanwhile, and the seconds for which the hook raises.
JOBS, SECONDS = 5, 8
#: As that of jobs whose timeout is short: the other worker would take them over while the hook still raises.
SHORTEN_DEADLINES = {
    "sqlite": "UPDATE notifications_job SET deadline = strftime('%Y-%m-%d %H:%M:%f', 'now', '+6 seconds')",
    "postgresql": "UPDATE notifications_job SET deadline = now() + interval '6 seconds'",
}


@pytest.fixture
def engine(site, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    engine = Engine(site, "failing hooks", lease=2, FAULT_HOOK=str(broken))
    engine.broken = broken
    yield engine
    engine.close()


@pytest.mark.timeout(120)
def test_a_hook_that_raises_while_jobs_end(engine):
    """Each job runs once, and is recorded once when the hook works again; its worker says why it waits."""
    workers = [engine.site.start_worker() for _ in range(2)]
    ids = engine.enqueue("work", JOBS, args=[0.1])
    wait_until(lambda: len(engine.effects("done", jobs=ids)) == JOBS, what="the jobs to be done")
    begun = time.monotonic()
    wait_until(
        lambda: any("Hook failed" in worker.output for worker in workers), what="a worker to log the hook"
    )
    vendor = "postgresql" if "postgres" in engine.site.database_url else "sqlite"
    engine.site.write([(f"{SHORTEN_DEADLINES[vendor]} WHERE state = 'running'", ())])
    # The hook raises for this long: there is nothing else to wait for.
    wait_until(lambda: time.monotonic() - begun > SECONDS, what="time to pass")
    assert {job.state for job in engine.jobs(ids)} == {"running"}
    engine.broken.unlink()
    wait_until(
        lambda: {job.state for job in engine.jobs(ids)} == {"succeeded"}, what="the jobs to be recorded"
    )
    assert len(engine.effects("started", jobs=ids)) == JOBS
    assert [job.attempt for job in engine.jobs(ids)] == [1] * JOBS
    [(count, distinct)] = engine.site.rows(
        "SELECT count(*), count(DISTINCT job) FROM notifications_notification"
    )
    assert (count, distinct) == (JOBS, JOBS)
