"""The worker inside a server process."""

import pytest

from tests.support.waiting import wait_until

SERVER = """
import os, sys, threading, time
import django
django.setup()
from notifications.worker import embedded
from notifications.models import Job, Worker
from notifications.realtime import listen
from tests.jobs import process_tasks, tasks

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "The condition was not met within 60 s."
        time.sleep(0.01)

def done(result):
    until(lambda: Job.objects.get(id=result.id).state == "succeeded")
    return Job.objects.get(id=result.id)

def names():
    return [thread.name for thread in threading.enumerate()]

embedded.RESTART_DELAY_SECONDS = 0.01
embedded.start(listen)
embedded.start(listen)
"""


@pytest.fixture
def run(site):
    """run(code) runs code in a process with an embedded worker, and returns what it printed."""

    def run(code):
        process = site.start("server", "-c", SERVER + code)
        process.popen.wait(90)
        assert process.popen.returncode == 0, process.output
        return process.output

    return run


def test_one_worker_per_process(run, site):
    """A second start has no effect. The worker runs jobs, and releases running ones when the process ends."""
    run(
        """
until(lambda: Worker.objects.count() == 1)
assert [t.name for t in threading.enumerate()].count("notifications-worker") == 1
assert all(t.daemon for t in threading.enumerate() if t is not threading.main_thread())
done(tasks.noop.enqueue())
running = [tasks.hold.enqueue(), tasks.hold_sync.enqueue()]
until(lambda: len(tasks.held) == 2)
"""
    )
    assert site.rows("SELECT state, attempt FROM notifications_job ORDER BY id") == [
        ("succeeded", 1),
        ("queued", 0),
        ("queued", 0),
    ]
    assert site.rows("SELECT id FROM notifications_worker") == []


def test_a_forked_server_has_its_own_worker(run):
    """As under a server that forks after it loaded the application, when the parent's worker has not started yet."""
    run(
        """
pid = os.fork()
if not pid:
    until(lambda: Worker.objects.count() == 2)
    own = Worker.objects.exclude(process__contains=f" {os.getppid()} ").get()
    assert f" {os.getpid()} " in own.process
    embedded.stop()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
done(tasks.noop.enqueue())
"""
    )


def test_a_process_that_a_task_forks_has_no_worker(run):
    """It is not a server, and jobs that a worker in it claims would be lost when it ends."""
    run(
        """
job = done(process_tasks.fork_and_list_threads.enqueue())
assert "notifications-worker" not in job.result, job.result
"""
    )


def test_it_is_restarted_after_an_error(run):
    """On the same event loop, to which clients belong that tasks keep. What ran is queued again, and runs once."""
    run(
        """
until(lambda: Worker.objects.count() == 1)
first = embedded._worker
running = tasks.hold.enqueue()
until(lambda: len(tasks.held) == 1)
loop = first.state.loop
first._let_jobs_finish = None  # its stop fails
first.stop()
until(lambda: embedded._worker is not first)
until(lambda: Job.objects.get(id=running.id).fence == 2)
tasks.gate.set()
done(running)
assert embedded._worker.state.loop is loop and len(tasks.held) == 2 and tasks.seen == ["cancelled "]
"""
    )


def test_nothing_is_left_of_a_start_that_fails(run):
    """Neither the thread that renews its lease nor its row. Another one follows, until the process ends."""
    output = run(
        """
from notifications.jobs.transitions import reaping
reap, tries = reaping.reap_jobs, []
def fail(*args, **kwargs):
    tries.append(names().count("notifications-lease"))
    if len(tries) == 3:
        embedded.RESTART_DELAY_SECONDS = 3600
    raise RuntimeError("No.")
reaping.reap_jobs = fail
until(lambda: len(tries) == 3 and "notifications-lease" not in names())
until(lambda: not Worker.objects.exists())
assert tries == [1, 1, 1], tries
"""
    )
    assert "A loop of the worker failed and is started again" in output


def test_it_goes_on_after_an_error_that_leaves_the_event_loop(run):
    """Here SystemExit of a callback."""
    run(
        """
until(lambda: Worker.objects.count() == 1)
first = embedded._worker
def end():
    raise SystemExit(1)
first.state.loop.call_soon_threadsafe(end)
done(tasks.noop.enqueue())
assert embedded._worker is first
"""
    )


def test_it_never_starts_under_a_test_runner(settings):
    """Not even with EMBEDDED_WORKER set."""
    import threading

    from notifications.asgi import get_asgi_application

    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "EMBEDDED_WORKER": True}
    others = set(threading.enumerate())
    get_asgi_application()
    assert "notifications-worker" not in [thread.name for thread in set(threading.enumerate()) - others]


def test_it_never_starts_in_a_management_command(site):
    assert "notifications-worker" not in site.python(
        "import threading, asyncsite.asgi; print([thread.name for thread in threading.enumerate()])"
    )


@pytest.mark.smoke
def test_a_server_runs_jobs_before_the_first_request(site):
    """The worker starts with the application."""
    from tests.support.network import is_listening

    web = site.start("web", "-m", "daphne", "-b", "127.0.0.1", "-p", site.port, "asyncsite.asgi:application")
    web.wait_until(lambda: is_listening(site.port), what="the server to listen")
    site.python("from tests.jobs.tasks import *; noop.enqueue()")
    wait_until(
        lambda: site.rows("SELECT state FROM notifications_job") == [("succeeded",)],
        what="the job to be done",
    )
