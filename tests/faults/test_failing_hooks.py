"""A hook of an extension raises for seconds while jobs end, with another worker beside."""

import time

import pytest

from tests.faults.support.engine import Engine, canonical
from tests.support.waiting import wait_until

#: Jobs that end meanwhile, and the seconds for which the hook raises.
JOBS, SECONDS = 5, 8
#: Counts the jobs whose outcome is stored beside them.
KEPT = "SELECT count(*) FROM notifications_job WHERE unrecorded_outcome IS NOT NULL"
#: As that of jobs whose timeout is short: the other worker would take them over while the hook still raises.
SHORTEN_DEADLINES = {
    "sqlite": "UPDATE notifications_job SET deadline = strftime('%Y-%m-%d %H:%M:%f', 'now', '+6 seconds')",
    "postgresql": "UPDATE notifications_job SET deadline = now() + interval '6 seconds'",
}


@pytest.fixture
def engine(request, site, tmp_path):
    broken = tmp_path / getattr(request, "param", "on_ends")
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


#: What tasks raise at their first attempt, and how their jobs end.
ENDS = {
    "": ("succeeded", 'It returned "done".', []),
    "ValueError": ("failed", "It returned null.", ["ValueError: Refused"]),
    "ConnectionError": ("succeeded", 'It returned "done".', ["ConnectionError: Refused"]),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("engine", "end"),
    [("on_ends", "stop"), ("on_ends", "kill"), ("before_outcome", "stop")],
    indirect=["engine"],
)
def test_a_worker_that_ends_while_a_hook_raises(engine, end):
    """The work is not done again: the next worker records what came of it, as this one would have."""
    engine.site.notifications["GRACE"] = 1
    worker = engine.site.start_worker()
    ids = {error: engine.enqueue("return_or_raise", args=[error])[0] for error in ENDS}
    wait_until(lambda: engine.site.rows(KEPT)[0][0] == len(ids), what="the outcomes to be stored")
    getattr(worker, end)()
    worker = engine.site.start_worker()
    # It cannot record them either. Nothing of another job comes before it has claimed them.
    wait_until(lambda: "Hook failed" in worker.output, what="the next worker to log the hook")
    assert {job.state for job in engine.jobs()} <= {"queued", "running"}
    engine.broken.unlink()
    engine.wait_until_done()
    bodies = dict(engine.site.rows("SELECT job, body FROM notifications_notification WHERE job IS NOT NULL"))
    bodies = {canonical(id): body for id, body in bodies.items()}
    for error, (state, body, tracebacks) in ENDS.items():
        [job] = engine.jobs([ids[error]])
        attempts = 1 + (error == "ConnectionError")
        assert (job.state, job.attempt, bodies[job.id]) == (state, attempts, body)
        assert len(engine.effects("started", jobs=[job.id])) == attempts
        rows = engine.site.rows("SELECT traceback, job_id FROM notifications_attempt")
        found = [text.splitlines()[-1] for text, id in rows if canonical(id) == job.id]
        assert found == tracebacks
    engine.assert_invariants()
