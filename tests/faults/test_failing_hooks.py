"""A hook of an extension raises for seconds while jobs end, with another worker beside."""

import pytest

from tests.support.faults.engine import Engine, canonical
from tests.support.waiting import wait_until

#: Jobs that end meanwhile: more than the slots of both workers.
JOBS = 40
#: Counts the calls that are owed, and that have failed again.
OWED = "SELECT count(*), coalesce(sum(tries), 0) FROM notifications_owedcall"


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
    """Each job runs once, ends at once, and the hook is called for each later, also by another worker."""
    workers = [engine.site.start_worker() for _ in range(2)]
    ids = engine.enqueue("work", JOBS, args=[0.1])
    wait_until(lambda: {job.state for job in engine.jobs(ids)} == {"succeeded"}, what="the jobs to end")
    wait_until(lambda: engine.site.rows(OWED)[0][1] > JOBS, what="the hook to be called again")
    assert engine.site.rows(OWED)[0][0] == JOBS
    assert any("Hook failed, and is called again later" in worker.output for worker in workers)
    workers[0].kill()
    engine.broken.unlink()
    # The pauses between two calls grow meanwhile.
    wait_until(lambda: engine.site.rows(OWED)[0][0] == 0, timeout=60, what="the calls to be made")
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


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("engine", "end"),
    [("on_ends", "stop"), ("on_ends", "kill"), ("before_outcome", "stop")],
    indirect=["engine"],
)
def test_a_worker_that_ends_while_a_hook_raises(engine, end):
    """What has become of its jobs is recorded already, in each way in which they end."""
    engine.site.notifications["GRACE"] = 1
    worker = engine.site.start_worker()
    ids = {error: engine.enqueue("return_or_raise", args=[error])[0] for error in ENDS}
    engine.wait_until_done()
    getattr(worker, end)()
    engine.site.start_worker()
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
    engine.broken.unlink()
    wait_until(lambda: engine.site.rows(OWED)[0][0] == 0, timeout=60, what="the calls to be made")
    engine.assert_invariants()
