"""What processes that tasks fork inherit."""

import multiprocessing
import threading

from notifications.api import task
from tests.worker.test_embedded import run  # noqa: F401 (a fixture)


def list_threads():
    return [thread.name for thread in threading.enumerate()]


@task
def list_threads_in_pool():
    """Return the names of the threads of two processes of a pool, of which the second one replaces the first one."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return [pool.apply_async(list_threads).get(20) for _ in range(2)]


def test_the_first_fork_of_a_task_is_logged(run):  # noqa: F811
    """Once: its children may wait for a lock for ever, and a pool forks for each of its processes."""
    output = run(
        """
for _ in range(2):
    done(process_tasks.fork_and_list_threads.enqueue())
done(tasks.noop.enqueue())
"""
    )
    logged = [line for line in output.splitlines() if "A task forks its worker" in line]
    assert len(logged) == 1
    assert 'get_context("spawn")' in logged[0] and "process_tasks.fork_and_list_threads" in logged[0]


def test_a_fork_of_a_server_obeys_signals(run):  # noqa: F811
    """The handlers of the server would keep `Process.terminate()` from ending it. What is ignored stays so."""
    run(
        """
import signal
signal.signal(signal.SIGTERM, lambda *args: None)
assert done(process_tasks.fork_and_end.enqueue()).result == "-15"
assert callable(signal.getsignal(signal.SIGTERM))
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
"""
    )


def test_a_process_that_a_pool_replaces_has_no_worker(run):  # noqa: F811
    """The pool of the task forks it on a thread of its own."""
    run(
        """
from tests.worker.test_forks import list_threads_in_pool
job = done(list_threads_in_pool.enqueue())
assert "notifications-worker" not in job.result, job.result
"""
    )
