"""join() in separate processes: a script waits for jobs of workers, and their rings end the wait."""

import json

import pytest

from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres

#: A script that reads the job when it begins to wait, and afterwards only after a ring.
SCRIPT = """
import threading, time, django
django.setup()
from notifications.api import {function}
from notifications.jobs import job_ends
from notifications.realtime.doorbell import doorbell
from tests.jobs import process_tasks, tasks
job_ends.FIRST_POLL_SECONDS = job_ends.MAX_POLL_SECONDS = 1000

def print_when_listening():
    while not (doorbell._listener and doorbell._listener.is_listening):
        time.sleep(0.01)
    print("listening", flush=True)

threading.Thread(target=print_when_listening, daemon=True).start()
{code}
"""


@pytest.fixture
def workers(site):
    site.environment["EMBEDDED_WORKER"] = "0"
    return site


def start_script(site, code, function="join"):
    return site.start("script", "-c", SCRIPT.format(function=function, code=code))


@pytest.mark.nightly
@pytest.mark.parametrize("function", ["join", "ajoin"])
@pytest.mark.parametrize("owner", ["None", "1"])
def test_script_joins_a_job(workers, tmp_path, function, owner):
    """The ring of the worker's process ends the wait, for a job with and without an owner."""
    gate = str(tmp_path / "gate")
    wait = "join(result)" if function == "join" else "__import__('asyncio').run(ajoin(result))"
    script = start_script(
        workers,
        f"write = process_tasks.write_and_wait.using(owner={owner})\n"
        f"result = write.enqueue({str(tmp_path / 'started_file')!r}, {gate!r})\n"
        f"print('got', {wait})",
        function,
    )
    worker = workers.start_worker()
    script.wait_for_line("listening")
    wait_until((tmp_path / "started_file").exists, what="the job to start")
    (tmp_path / "gate").touch()
    script.popen.wait(60)
    assert f"got {worker.pid}" in script.output


@pytest.mark.nightly
def test_parents_and_children_over_two_workers(workers):
    """Sync and async parents occupy every slot and thread of both workers, whose jobs include the children."""
    for _ in range(2):
        workers.start_worker("--concurrency", "4")
    script = start_script(
        workers,
        "parents = [getattr(tasks, name).enqueue(number)\n"
        "           for number in range(20) for name in ('parent', 'parent_sync', 'parent_sync_of_sync')]\n"
        "print('got', sum(join(parent, timeout=60) for parent in parents))",
    )
    script.popen.wait(90)
    assert f"got {sum(range(20)) * 3 + 20}" in script.output


def test_worker_of_the_child_is_killed(workers, tmp_path):
    """The child is started again by another worker, and the waiting parent gets its result."""
    gate = str(tmp_path / "gate")
    script = start_script(
        workers,
        f"result = process_tasks.write_and_wait.enqueue({str(tmp_path / 'started_file')!r}, {gate!r})\n"
        "print('got', join(result, timeout=60))",
    )
    started_file = tmp_path / "started_file"
    first = workers.start_worker()
    # Not only until the file exists: the worker may be killed between opening and writing it.
    wait_until(lambda: started_file.exists() and started_file.read_text(), what="the job to start")
    first.kill()
    second = workers.start_worker()
    wait_until(lambda: len(started_file.read_text().split()) == 2, what="the job to start again")
    (tmp_path / "gate").touch()
    script.popen.wait(60)
    assert f"got {second.pid}" in script.output
    assert json.loads(workers.rows("SELECT result FROM notifications_job")[0][0]) == second.pid
