"""join in processes of their own: a script waits for what workers do, and hears of it by a ring."""

import json

import pytest

from tests.support.waiting import wait_until

#: A script that looks for itself only when it begins to wait, and then goes by rings alone.
SCRIPT = """
import threading, time, django
django.setup()
from notifications.api import {how}
from notifications.jobs import awaited
from tests.jobs import joining_tasks, tasks
from notifications.realtime.doorbell import doorbell
awaited.FIRST_POLL_SECONDS = awaited.MAX_POLL_SECONDS = 1000

def say_when_it_hears():
    while not (doorbell._listener and doorbell._listener.is_listening):
        time.sleep(0.01)
    print("hears", flush=True)

threading.Thread(target=say_when_it_hears, daemon=True).start()
{code}
"""


@pytest.fixture
def workers(site):
    site.environment["EMBEDDED_WORKER"] = "0"
    return site


def start_script(site, code, how="join"):
    return site.start("script", "-c", SCRIPT.format(how=how, code=code))


@pytest.mark.parametrize("how", ["join", "ajoin"])
@pytest.mark.parametrize("owner", ["None", "1"])
def test_a_script_hears_of_a_workers_end(workers, tmp_path, how, owner):
    """Woken by the ring of another process, for the job of a user and for one of nobody."""
    go = str(tmp_path / "go")
    wait = "join(result)" if how == "join" else "__import__('asyncio').run(ajoin(result))"
    script = start_script(
        workers,
        f"result = tasks.write_and_wait.using(owner={owner}).enqueue({str(tmp_path / 'words')!r}, {go!r})\n"
        f"print('got', {wait})",
        how,
    )
    worker = workers.start_worker()
    script.wait_for_line("hears")
    wait_until((tmp_path / "words").exists, what="the job to begin")
    (tmp_path / "go").touch()
    script.popen.wait(60)
    assert f"got {worker.pid}" in script.output


def test_parents_and_children_over_two_workers(workers):
    """Sync and async parents on every slot and thread of both workers, with children anywhere."""
    for _ in range(2):
        workers.start_worker("--concurrency", "4")
    script = start_script(
        workers,
        "parents = [getattr(joining_tasks, name).enqueue(number)\n"
        "           for number in range(20) for name in ('parent', 'parent_sync', 'parent_sync_of_sync')]\n"
        "print('got', sum(join(parent, timeout=60) for parent in parents))",
    )
    script.popen.wait(90)
    assert f"got {sum(range(20)) * 3 + 20}" in script.output


def test_a_parent_survives_the_death_of_its_childs_worker(workers, tmp_path):
    """The child is begun again elsewhere; its parent goes on waiting and gets the second one's answer."""
    go = str(tmp_path / "go")
    script = start_script(
        workers,
        f"result = tasks.write_and_wait.enqueue({str(tmp_path / 'words')!r}, {go!r})\n"
        "print('got', join(result, timeout=60))",
    )
    words = tmp_path / "words"
    first = workers.start_worker()
    wait_until(words.exists, what="the job to begin")
    first.kill()
    second = workers.start_worker()
    wait_until(lambda: len(words.read_text().split()) == 2, what="the job to begin again")
    (tmp_path / "go").touch()
    script.popen.wait(60)
    assert f"got {second.pid}" in script.output
    assert json.loads(workers.rows("SELECT result FROM notifications_job")[0][0]) == second.pid
