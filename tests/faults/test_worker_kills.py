"""Workers are killed and frozen: every job ends, and its owner is notified once."""

import json
import signal

import pytest

from tests.support.faults.freezing import frozen
from tests.support.waiting import wait_until

ENQUEUE = """
from django.contrib.auth import get_user_model
from django.db import transaction
from tests.jobs import process_tasks, tasks
demo = get_user_model().objects.get(username="demo")
with transaction.atomic():
    {}
"""
SEQS = """
SELECT seq FROM notifications_job WHERE user_id IS NOT NULL UNION ALL SELECT seq FROM notifications_notification
"""


@pytest.fixture
def workers(site, tmp_path):
    """A site whose jobs write to the file `path` and wait for the file `gate`."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.path, site.gate = tmp_path / "words", tmp_path / "gate"
    yield site
    site.gate.touch()


def enqueue(site, *calls):
    """Enqueue jobs of demo in one transaction."""
    site.python(ENQUEUE.format("\n    ".join(calls)))


def enqueue_waiting(site, task="write_and_wait", count=1):
    enqueue(
        site,
        f"for _ in range({count}):"
        f" process_tasks.{task}.using(owner=demo).enqueue({str(site.path)!r}, {str(site.gate)!r})",
    )


def read_words(site):
    return site.path.read_text().split() if site.path.exists() else []


def read_jobs(site, columns="state, attempt"):
    return site.rows(f"SELECT {columns} FROM notifications_job ORDER BY id")


def wait_until_all(site, state, timeout=20):
    wait_until(
        lambda: {row[0] for row in read_jobs(site)} == {state},
        timeout=timeout,
        what=f"all jobs to be {state}",
    )


def get_notifications(site):
    return site.rows("SELECT job, level FROM notifications_notification")


def wait_until_started(site, count=1):
    return wait_until(
        lambda: len(read_words(site)) >= count and read_words(site), what=f"{count} jobs to start"
    )


def assert_notified_once(site):
    """Check that each job has one notification, and that the seqs of both have no gap."""
    notified = [job for job, _ in get_notifications(site)]
    assert sorted(map(str, notified)) == sorted(str(id) for (id,) in read_jobs(site, "id"))
    numbers = wait_until(
        lambda: None not in (seqs := [seq for (seq,) in site.rows(SEQS)]) and seqs, what="a seq for each row"
    )
    assert sorted(numbers) == list(range(1, 2 * len(notified) + 1))


@pytest.mark.nightly
@pytest.mark.parametrize("task", ["write_and_wait", "write_and_wait_sync"])
def test_takeover_from_a_killed_worker(workers, task):
    """After kill -9 another worker of the host takes over the job before the lease ends."""
    workers.notifications["LEASE"] = 600
    first = workers.start_worker()
    second = workers.start_worker()
    enqueue_waiting(workers, task)
    (runner,) = wait_until_started(workers)
    victim, successor = (first, second) if int(runner) == first.pid else (second, first)
    victim.kill()
    assert wait_until_started(workers, 2) == [str(victim.pid), str(successor.pid)]
    workers.gate.touch()
    wait_until_all(workers, "succeeded")
    assert read_jobs(workers) == [("succeeded", 2)]
    assert_notified_once(workers)
    assert workers.rows("SELECT number, outcome FROM notifications_attempt") == [(1, "lost")]
    (result,) = read_jobs(workers, "result")[0]
    assert json.loads(result) == successor.pid


@pytest.mark.smoke
def test_worker_started_after_the_kill(workers):
    """The next worker takes over the jobs, although no lease has ended."""
    workers.notifications["LEASE"] = 600
    first = workers.start_worker()
    enqueue_waiting(workers, count=3)
    wait_until_started(workers, 3)
    first.kill()
    workers.gate.touch()
    workers.start_worker()
    wait_until_all(workers, "succeeded")
    assert read_jobs(workers) == [("succeeded", 2)] * 3
    assert_notified_once(workers)


def test_job_that_kills_its_worker(workers):
    """Attempts are counted at the claim. After the last one the job has failed, and its owner is notified."""
    enqueue(workers, f"process_tasks.kill_worker.using(owner=demo).enqueue({str(workers.path)!r})")
    for attempt in (1, 2):
        worker = workers.start("worker", "manage.py", "run_jobs")
        worker.popen.wait(20)
        assert worker.popen.returncode == -signal.SIGKILL
        assert len(read_words(workers)) == attempt
    workers.start_worker()
    wait_until_all(workers, "failed")
    assert read_jobs(workers) == [("failed", 2)]
    assert len(read_words(workers)) == 2
    assert [level for _, level in get_notifications(workers)] == ["error"]
    assert_notified_once(workers)
    assert workers.rows("SELECT number, outcome FROM notifications_attempt ORDER BY number") == [
        (1, "lost"),
        (2, "lost"),
    ]


@pytest.mark.nightly
def test_worker_frozen_past_its_lease(workers):
    """After the lease each of two other workers takes over one job, as a quarantined job, and finishes it.

    After SIGCONT the stale worker writes nothing.
    """
    # If it were shorter than the pauses of a busy machine, a successor would lose its own.
    workers.notifications["LEASE"] = 8
    first = workers.start_worker()
    enqueue_waiting(workers)
    enqueue_waiting(workers, "write_and_wait_sync")
    wait_until_started(workers, 2)
    successors = [workers.start_worker(), workers.start_worker()]
    pids = sorted(successor.pid for successor in successors)
    with frozen([first.pid], workers.database_url):
        started = [int(pid) for pid in wait_until_started(workers, 4)]
        assert started[:2] == [first.pid] * 2 and sorted(started[2:]) == pids
        workers.gate.touch()
        wait_until_all(workers, "succeeded")
        before = read_all_rows(workers)
    # The stale tasks end or are cancelled. Their worker notices that its claims are void, and continues to work.
    wait_until(
        lambda: first.output.count("another worker has claimed job") == 2,
        what="the stale worker to notice",
    )
    assert read_all_rows(workers) == before
    assert read_jobs(workers) == [("succeeded", 2)] * 2
    assert sorted(json.loads(result) for (result,) in read_jobs(workers, "result")) == pids
    assert_notified_once(workers)
    for successor in successors:
        successor.stop()
    enqueue_waiting(workers)
    wait_until(
        lambda: read_jobs(workers)[-1] == ("succeeded", 1), what="the worker that was frozen to work again"
    )


def test_sigterm_releases_jobs(workers):
    """Jobs that do not finish within the grace period are queued again without counting the attempt."""
    workers.notifications["GRACE"] = 0.5
    worker = workers.start_worker()
    enqueue_waiting(workers, count=2)
    enqueue_waiting(workers, "write_and_wait_sync")
    wait_until_started(workers, 3)
    assert worker.stop() == 0
    assert read_jobs(workers, "state, attempt, worker") == [("queued", 0, None)] * 3
    assert workers.rows("SELECT id FROM notifications_worker") == []
    assert workers.rows("SELECT id FROM notifications_attempt") == []
    assert get_notifications(workers) == []
    workers.gate.touch()
    workers.start_worker()
    wait_until_all(workers, "succeeded")
    assert read_jobs(workers) == [("succeeded", 1)] * 3
    assert_notified_once(workers)


def test_sigterm_lets_jobs_finish(workers):
    worker = workers.start_worker()
    enqueue_waiting(workers)
    wait_until_started(workers)
    worker.popen.terminate()
    workers.gate.touch()
    worker.popen.wait(15)
    assert worker.popen.returncode == 0
    assert read_jobs(workers) == [("succeeded", 1)]
    assert_notified_once(workers)


def test_signals_of_a_forked_child(workers):
    """SIGTERM ends the child, as multiprocessing expects, and not the worker."""
    worker = workers.start_worker()
    enqueue(workers, "process_tasks.fork_and_end.using(owner=demo).enqueue()")
    wait_until_all(workers, "succeeded")
    assert read_jobs(workers, "result") == [("-15",)]
    enqueue(workers, "tasks.noop.using(owner=demo).enqueue()")
    wait_until_all(workers, "succeeded")
    assert worker.running


@pytest.mark.nightly
def test_repeated_kills(workers):
    """Two workers are killed repeatedly while they execute 60 jobs. Each job succeeds, with one notification."""
    enqueue(
        workers,
        f"for number in range(60):"
        f" process_tasks.write_and_pause.using(owner=demo).enqueue({str(workers.path)!r}, number)",
    )
    started = [workers.start("worker", "manage.py", "run_jobs", "--concurrency", "4") for _ in range(2)]
    for kill in range(4):
        wait_until_started(workers, 10 * (kill + 1))
        started[kill % 2].kill()
        started[kill % 2] = workers.start("worker", "manage.py", "run_jobs", "--concurrency", "4")
    wait_until_all(workers, "succeeded", timeout=40)
    assert {int(word) for word in read_words(workers)} == set(range(60))
    attempts = {json.loads(args)[1]: attempt for args, attempt in read_jobs(workers, "args, attempt")}
    started = [int(word) for word in read_words(workers)]
    # An attempt is counted at the claim, so that it may be lost before the task has written anything.
    assert all(started.count(number) <= attempt <= 5 for number, attempt in attempts.items())
    assert_notified_once(workers)


def test_postgresql_refuses_connections(workers):
    """Connections are terminated, and new ones refused for a while: jobs are late, none is lost or runs twice."""
    if workers.database_url.startswith("sqlite"):
        pytest.skip("SQLite has no server.")
    import psycopg

    worker = workers.start_worker()
    enqueue_waiting(workers, count=3)
    wait_until_started(workers, 3)
    base, _, name = workers.database_url.rpartition("/")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        workers.gate.touch()
        worker.wait_for_line("Could not record")
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    wait_until_all(workers, "succeeded")
    assert read_jobs(workers) == [("succeeded", 1)] * 3
    assert sorted(read_words(workers)) == [*[str(worker.pid)] * 3, *["done"] * 3]
    assert_notified_once(workers)
    enqueue(workers, "tasks.noop.using(owner=demo).enqueue()")
    wait_until_all(workers, "succeeded")


def read_all_rows(site):
    """Return all rows that a stale worker could change."""
    return {
        table: sorted(map(str, site.rows(f"SELECT * FROM notifications_{table}")))
        for table in ("job", "notification", "attempt", "stream")
    }
