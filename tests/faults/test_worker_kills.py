"""Workers in processes of their own, killed and frozen: every job reaches its end, and its owner is told once."""

import json
import signal

import pytest

from tests.support.waiting import wait_until

ASK = """
from django.contrib.auth import get_user_model
from django.db import transaction
from tests.jobs import tasks
demo = get_user_model().objects.get(username="demo")
with transaction.atomic():
    {}
"""
NUMBERS = """
SELECT seq FROM notifications_job WHERE user_id IS NOT NULL UNION ALL SELECT seq FROM notifications_notification
"""


@pytest.fixture
def workers(site, tmp_path):
    """The site's workers, and what jobs leave in files: `path` the words, `go` opens the gate."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.path, site.go = tmp_path / "words", tmp_path / "go"
    yield site
    site.go.touch()


def ask(site, *calls):
    """Enqueue in one transaction, as demo."""
    site.python(ASK.format("\n    ".join(calls)))


def ask_to_wait(site, task="write_and_wait", count=1):
    ask(
        site,
        f"for _ in range({count}): tasks.{task}.using(owner=demo).enqueue({str(site.path)!r}, {str(site.go)!r})",
    )


def words(site):
    return site.path.read_text().split() if site.path.exists() else []


def jobs(site, columns="state, attempt"):
    return site.rows(f"SELECT {columns} FROM notifications_job ORDER BY id")


def until_all(site, state, timeout=20):
    wait_until(
        lambda: {row[0] for row in jobs(site)} == {state},
        timeout=timeout,
        what=f"all jobs to be {state}",
    )


def told(site):
    return site.rows("SELECT job, level FROM notifications_notification")


def until_begun(site, count=1):
    return wait_until(lambda: len(words(site)) >= count and words(site), what=f"{count} jobs to begin")


def assert_told_once(site):
    """Each job has exactly one notification, and the numbers of both have no hole."""
    notified = [job for job, _ in told(site)]
    assert sorted(map(str, notified)) == sorted(str(id) for (id,) in jobs(site, "id"))
    numbers = wait_until(
        lambda: None not in (seqs := [seq for (seq,) in site.rows(NUMBERS)]) and seqs, what="numbers for all"
    )
    assert sorted(numbers) == list(range(1, 2 * len(notified) + 1))


@pytest.mark.parametrize("task", ["write_and_wait", "write_and_wait_sync"])
def test_a_second_worker_takes_over_at_once_from_a_killed_one(workers, task):
    """kill -9 in the middle of a job: a worker of the same host has it before the lease is over."""
    workers.notifications["LEASE"] = 600
    first = workers.start_worker()
    second = workers.start_worker()
    ask_to_wait(workers, task)
    (runner,) = until_begun(workers)
    victim, heir = (first, second) if int(runner) == first.pid else (second, first)
    victim.kill()
    assert until_begun(workers, 2) == [str(victim.pid), str(heir.pid)]
    workers.go.touch()
    until_all(workers, "succeeded")
    assert jobs(workers) == [("succeeded", 2)]
    assert_told_once(workers)
    assert workers.rows("SELECT number, outcome FROM notifications_attempt") == [(1, "lost")]
    (result,) = jobs(workers, "result")[0]
    assert json.loads(result) == heir.pid


def test_a_worker_that_is_started_after_the_kill(workers):
    """Nobody is there for a while; the next worker begins with what was left, although no lease is over."""
    workers.notifications["LEASE"] = 600
    first = workers.start_worker()
    ask_to_wait(workers, count=3)
    until_begun(workers, 3)
    first.kill()
    workers.go.touch()
    workers.start_worker()
    until_all(workers, "succeeded")
    assert jobs(workers) == [("succeeded", 2)] * 3
    assert_told_once(workers)


def test_a_job_that_kills_its_worker_cannot_go_on_for_ever(workers):
    """Its attempts are counted at the claim. After the last one it has failed, and its owner is told."""
    ask(workers, f"tasks.kill_worker.using(owner=demo).enqueue({str(workers.path)!r})")
    for attempt in (1, 2):
        worker = workers.start("worker", "manage.py", "run_jobs")
        worker.popen.wait(20)
        assert worker.popen.returncode == -signal.SIGKILL
        assert len(words(workers)) == attempt
    workers.start_worker()
    until_all(workers, "failed")
    assert jobs(workers) == [("failed", 2)]
    assert len(words(workers)) == 2
    assert [level for _, level in told(workers)] == ["error"]
    assert_told_once(workers)
    assert workers.rows("SELECT number, outcome FROM notifications_attempt ORDER BY number") == [
        (1, "lost"),
        (2, "lost"),
    ]


def test_a_worker_frozen_past_its_lease_changes_nothing(workers):
    """SIGSTOP: the lease ends, other workers have the jobs, as suspects one each, and finish them.

    SIGCONT: the stale one writes nothing.
    """
    workers.notifications["LEASE"] = 4
    first = workers.start_worker()
    ask_to_wait(workers)
    ask_to_wait(workers, "write_and_wait_sync")
    until_begun(workers, 2)
    heirs = [workers.start_worker(), workers.start_worker()]
    pids = sorted(heir.pid for heir in heirs)
    first.popen.send_signal(signal.SIGSTOP)
    try:
        begun = [int(pid) for pid in until_begun(workers, 4)]
        assert begun[:2] == [first.pid] * 2 and sorted(begun[2:]) == pids
        workers.go.touch()
        until_all(workers, "succeeded")
        before = everything(workers)
    finally:
        first.popen.send_signal(signal.SIGCONT)
    # The stale tasks go on and come to their end, or are cancelled; their worker finds out, and works on.
    wait_until(
        lambda: first.output.count("another worker has claimed job") == 2,
        what="the stale worker to notice",
    )
    assert everything(workers) == before
    assert jobs(workers) == [("succeeded", 2)] * 2
    assert sorted(json.loads(result) for (result,) in jobs(workers, "result")) == pids
    assert_told_once(workers)
    for heir in heirs:
        heir.stop()
    ask_to_wait(workers)
    wait_until(lambda: jobs(workers)[-1] == ("succeeded", 1), what="the worker that was frozen to work again")


def test_sigterm_gives_attempts_back(workers):
    """Within the grace a job may finish; what is left then is queued again as if it had not been begun."""
    workers.notifications["GRACE"] = 0.5
    worker = workers.start_worker()
    ask_to_wait(workers, count=2)
    ask_to_wait(workers, "write_and_wait_sync")
    until_begun(workers, 3)
    assert worker.stop() == 0
    assert jobs(workers, "state, attempt, worker") == [("queued", 0, None)] * 3
    assert workers.rows("SELECT id FROM notifications_worker") == []
    assert workers.rows("SELECT id FROM notifications_attempt") == []
    assert told(workers) == []
    workers.go.touch()
    workers.start_worker()
    until_all(workers, "succeeded")
    assert jobs(workers) == [("succeeded", 1)] * 3
    assert_told_once(workers)


def test_sigterm_lets_jobs_finish(workers):
    worker = workers.start_worker()
    ask_to_wait(workers)
    until_begun(workers)
    worker.popen.terminate()
    workers.go.touch()
    worker.popen.wait(15)
    assert worker.popen.returncode == 0
    assert jobs(workers) == [("succeeded", 1)]
    assert_told_once(workers)


def test_a_forked_child_of_a_task_and_its_signals(workers):
    """SIGTERM ends the child, as multiprocessing means it to, and the worker does not hear of it."""
    worker = workers.start_worker()
    ask(workers, "tasks.fork_and_end.using(owner=demo).enqueue()")
    until_all(workers, "succeeded")
    assert jobs(workers, "result") == [("-15",)]
    ask(workers, "tasks.noop.using(owner=demo).enqueue()")
    until_all(workers, "succeeded")
    assert worker.running


def test_workers_killed_again_and_again(workers):
    """60 jobs, two workers, a kill -9 every now and then: all reach their end, none is told twice."""
    ask(
        workers,
        f"for number in range(60): tasks.write_and_pause.using(owner=demo).enqueue({str(workers.path)!r}, number)",
    )
    started = [workers.start("worker", "manage.py", "run_jobs", "--concurrency", "4") for _ in range(2)]
    for kill in range(4):
        until_begun(workers, 10 * (kill + 1))
        started[kill % 2].kill()
        started[kill % 2] = workers.start("worker", "manage.py", "run_jobs", "--concurrency", "4")
    until_all(workers, "succeeded", timeout=40)
    assert {int(word) for word in words(workers)} == set(range(60))
    attempts = {json.loads(args)[1]: attempt for args, attempt in jobs(workers, "args, attempt")}
    begun = [int(word) for word in words(workers)]
    # An attempt is counted at the claim, so it may be lost before the task has said a word.
    assert all(begun.count(number) <= attempt <= 5 for number, attempt in attempts.items())
    assert_told_once(workers)


def test_postgresql_restarts_under_the_workers(workers):
    """Every connection is cut, and none can be made for a while: jobs are late, none is lost or run twice."""
    if workers.database_url.startswith("sqlite"):
        pytest.skip("SQLite has no server that could go away.")
    import psycopg

    worker = workers.start_worker()
    ask_to_wait(workers, count=3)
    until_begun(workers, 3)
    base, _, name = workers.database_url.rpartition("/")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        workers.go.touch()
        worker.wait_for_line("outcomes wait")
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    until_all(workers, "succeeded")
    assert jobs(workers) == [("succeeded", 1)] * 3
    assert sorted(words(workers)) == [*[str(worker.pid)] * 3, *["done"] * 3]
    assert_told_once(workers)
    ask(workers, "tasks.noop.using(owner=demo).enqueue()")
    until_all(workers, "succeeded")


def everything(site):
    """All that a stale worker could change."""
    return {
        table: sorted(map(str, site.rows(f"SELECT * FROM notifications_{table}")))
        for table in ("job", "notification", "attempt", "stream")
    }
