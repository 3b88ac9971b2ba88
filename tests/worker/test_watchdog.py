"""A process whose event loop does not come back ends, or starts itself again."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest

from notifications.worker import watchdog
from tests.jobs import tasks
from tests.support.site import ROOT
from tests.support.waiting import wait_until

#: The loop waits for a thread that has failed before it began, as without memory. A worker whose job blocks stays.
PROGRAM = """
import asyncio, logging, os, sys, threading, time
import django
from django.conf import settings
apps = ["django.contrib.auth", "django.contrib.contenttypes", "notifications"]
settings.configure(DEBUG={debug}, INSTALLED_APPS=apps)
django.setup()
from notifications.worker import watchdog
watchdog.MAX_BLOCKED_SECONDS = 1.0
logging.basicConfig(format="%(message)s")
print("started", flush=True)
if "AGAIN" in os.environ:
    sys.exit(0)
os.environ["AGAIN"] = "1"

async def main():
    watchdog.ServerWatchdog(asyncio.get_running_loop())
    await asyncio.sleep(0)
    stand_for_ever()

def stand_for_ever():
    threading.Event().wait(8)

{before}
asyncio.run(main())
print("went on", flush=True)
"""


def run(*, debug=False, before=""):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(debug=debug, before=before)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_server_ends():
    """The log has the stacks, and the exit code is one after which a supervisor starts it again."""
    ended = run()
    assert (ended.returncode, ended.stdout) == (70, "started\n")
    assert "The event loop has not run for" in ended.stderr
    assert "in stand_for_ever" in ended.stderr


def test_a_server_without_a_supervisor_starts_again():
    """By the command that started it."""
    ended = run(before="watchdog.restart_when_stuck()")
    assert (ended.returncode, ended.stdout) == (0, "started\nstarted\n")


def test_a_log_that_blocks_does_not_keep_the_process():
    """The thread that stands may hold the lock of the log."""
    before = """
watchdog.LOG_SECONDS = 1
class Blocking(logging.Handler):
    def emit(self, record):
        time.sleep(60)
logging.root.handlers[:] = [Blocking()]
"""
    assert run(before=before).returncode == -14  # SIGALRM


@pytest.mark.nightly
def test_a_server_in_development_ends_too():
    """A process that has run out of threads would stand for ever."""
    assert run(debug=True).returncode == 70


@pytest.mark.nightly
def test_a_server_with_autoreload_is_started_again_by_it():
    """It starts its process again after this exit code only."""
    assert run(debug=True, before='os.environ["RUN_MAIN"] = "true"').returncode == 3


def test_a_suspended_process_is_not_blocked(monkeypatch, caplog):
    """The watchdog was suspended as well, as on a closed laptop."""
    times = iter([0.0, 9.0, 9.2])  # at the start, after the sleep, and when the loop runs again
    instance = watchdog.Watchdog.__new__(watchdog.Watchdog)
    instance._last_heartbeat, instance._log_blocked = 0.0, lambda seconds: logged.append(seconds)
    instance._exit_seconds = None

    class Stopped:
        def wait(self, seconds):
            if self.waits == 1:
                instance._last_heartbeat = 9.1
            self.waits += 1
            return self.waits > 2

        waits = 0

    logged = []
    instance._stopped = Stopped()
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: next(times)))
    instance._watch()
    assert logged == []


#: For longer than a server that is stuck lives.
STAND_IN_PDB = """
import pdb
def stand_for_ever():
    read, write = os.pipe()
    threading.Timer(4, os.write, (write, b"continue\\n")).start()
    pdb.Pdb(stdin=os.fdopen(read), stdout=sys.stderr).set_trace()
"""
STAND_IN_MODULE = """
def stand_for_ever():
    exec("threading.Event().wait(4)", {{"__name__": {!r}, "threading": threading}})
"""


@pytest.mark.nightly_names("*[before1]", "*[before2]")
@pytest.mark.parametrize("before", [STAND_IN_PDB, *map(STAND_IN_MODULE.format, ("debugpy.server", "pydevd"))])
def test_in_a_debugger_the_loop_may_stand(before):
    """At a breakpoint, for as long as its programmer looks."""
    assert run(debug=True, before=before).stdout == "started\nwent on\n"


@pytest.mark.parametrize("is_process", [True, False])
def test_a_worker_is_not_ended_for_a_job(start_worker, gate, is_process):
    """A job that blocks the loop is named in the log, and its worker goes on with it."""
    worker = start_worker(is_process=is_process).worker
    tasks.hold.enqueue()
    wait_until(lambda: tasks.held, what="the job to run")
    (execution,) = worker.state.executions.values()
    assert not worker._may_end_process(execution.asyncio_task)
    assert worker._may_end_process(None) == is_process
    (claim_loop,) = (task for task in asyncio.all_tasks(worker.state.loop) if "Worker.run" in repr(task))
    assert worker._may_end_process(claim_loop) == is_process
