"""Workers are repeatedly frozen past their lease: they cannot change jobs that other workers have taken over."""

import signal
import uuid

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.faults.freezing import freeze_outside_transactions
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.nightly, pytest.mark.nightly_on_postgres]

#: The lease in seconds, and the short jobs that run while a worker is frozen.
LEASE, SHORT_JOBS = 2, 6


@pytest.fixture
def engine(site):
    engine = Engine(site, "fencing", lease=LEASE)
    yield engine
    for process in site.processes:
        if process.running:
            process.popen.send_signal(signal.SIGCONT)
    engine.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_frozen_worker(engine):
    """A frozen worker's job has one outcome and one notification, and the worker writes nothing after SIGCONT.

    In every other round the job still runs in the other worker when the stale one continues. One job waits at a time,
    because a worker runs at most one job of a lost worker.
    """
    workers = [engine.site.start_worker(), engine.site.start_worker()]
    for number in range(ROUNDS or 2):
        waiting_jobs = engine.enqueue(("wait_for_gate", "wait_for_gate_sync")[number // 2 % 2])
        started = engine.wait_until_started(waiting_jobs)
        engine.enqueue("work", SHORT_JOBS, args=[0.01])
        engine.enqueue("work_sync", SHORT_JOBS, args=[0.01])
        # Each worker is frozen and takes over in turn, so that both must continue with a new lease.
        frozen, other = workers if (number + number // 2) % 2 else workers[::-1]
        if not (taken_over := {effect.job for effect in started if effect.pid == frozen.pid}):
            frozen, other, taken_over = other, frozen, set(waiting_jobs)
        log_start = len(frozen.output)
        freeze_outside_transactions([frozen.pid], engine.site.database_url, engine.rng)
        engine.wait_until_started(taken_over, 2 * len(taken_over))
        wait_until(
            lambda taken_over=taken_over, other=other: (
                get_reporting_pids(engine, taken_over) == {str(other.pid)}
            ),
            timeout=TIMEOUT_SECONDS,
            what="the progress of the other worker",
        )
        if is_late := number % 2:
            engine.open_gate(frozen.pid)
            frozen.popen.send_signal(signal.SIGCONT)
            wait_until_noticed(frozen, log_start, taken_over)
            assert get_reporting_pids(engine, taken_over) == {str(other.pid)}, (
                "The stale worker has written its progress."
            )
            engine.open_gate(other.pid)
            wait_until_finished(engine, taken_over)
        else:
            engine.open_gate(other.pid)
            wait_until_finished(engine, taken_over)
            before = read_rows(engine, taken_over)
            engine.open_gate(frozen.pid)
            frozen.popen.send_signal(signal.SIGCONT)
            wait_until_noticed(frozen, log_start, taken_over)
            assert read_rows(engine, taken_over) == before
        engine.open_gate()
        engine.wait_until_done()
        for job in engine.jobs(taken_over):
            assert (job.state, job.attempt, job.result) == ("succeeded", 2, str(other.pid)), job
        void = frozen.output[log_start:].count(" is void")
        print(
            f"{number} {'running' if is_late else 'done'}: {len(taken_over)} jobs taken over, {void} outcomes void"
        )
        engine.close_gates()
    engine.assert_invariants()
    assert all(worker.running for worker in workers)


def get_reporting_pids(engine, ids):
    """Return the processes whose progress is stored for these jobs."""
    return {job.message for job in engine.jobs(ids)}


def wait_until_finished(engine, ids):
    wait_until(
        lambda: {job.state for job in engine.jobs(ids)} == {"succeeded"},
        timeout=TIMEOUT_SECONDS,
        what="the other worker to finish",
    )
    engine.wait_until_numbered()


def wait_until_noticed(worker, log_start, ids):
    def is_noticed():
        new = worker.output[log_start:]
        return all(f"another worker has claimed job {id}" in new for id in ids)

    wait_until(is_noticed, timeout=TIMEOUT_SECONDS, what="the stale worker to notice")


def read_rows(engine, ids):
    """Return all columns of these jobs, and of their notifications and attempts."""
    keys = {text for id in ids for text in (id, uuid.UUID(id).hex)}
    return {
        table: [row for row in rows if keys & set(map(str, row))]
        for table, rows in engine.read_all_rows().items()
    }
