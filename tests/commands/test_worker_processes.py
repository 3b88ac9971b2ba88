"""`manage.py run_jobs`: its ends by itself, its supervisor, and its reload."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from django.core.management import CommandError, call_command

from notifications.api import policy, task
from notifications.management import worker_processes
from notifications.management.worker_processes import Supervisor
from tests.support.waiting import wait_until

WORKERS = "SELECT id FROM notifications_worker"


@task
@policy(max_attempts=1)
def read_input():
    """Run a program that reads its standard input to the end, as ffmpeg and ssh do. Returns what it read."""
    return subprocess.run(["cat"], capture_output=True, check=True, text=True, timeout=20).stdout


@task
def list_inherited_descriptors():
    """Return the descriptors that a program has which closes none, but those of files.

    OpenSSL opens the file of certificates without O_CLOEXEC, for the time in which it reads it.
    """
    code = (
        "import os; print(*[fd for fd in range(256) if os.path.exists(f'/proc/self/fd/{fd}') and "
        "(fd < 3 or not os.readlink(f'/proc/self/fd/{fd}').startswith('/'))])"
    )
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, capture_output=True, check=True, close_fds=False).stdout.decode().split()


def states(site):
    return sorted(state for (state,) in site.rows("SELECT state FROM notifications_job"))


def enqueue(site, code):
    site.environment["EMBEDDED_WORKER"] = "0"
    site.python(f"from tests.jobs.tasks import *\n{code}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-jobs", "0"], "--max-jobs is 0. It must be 1 or more."),
        (["--processes", "0"], "--processes is 0. It must be 1 to 256."),
        (["--processes", "257"], "--processes is 257"),
        (["--reload", "--processes", "2"], "--reload runs one worker"),
        (["--reload", "--until-idle"], "--reload runs one worker"),
    ],
)
def test_refused_options(arguments, message):
    with pytest.raises(CommandError, match=message):
        call_command("run_jobs", *arguments)


def test_until_idle(site):
    """It runs the due jobs and those that they enqueue, leaves those for later, and exits with 0."""
    enqueue(
        site,
        "from datetime import timedelta; from django.utils import timezone\n"
        "[noop.enqueue() for _ in range(3)]; ask_child.enqueue()\n"
        "noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()",
    )
    output = site.manage("run_jobs", "--until-idle")
    assert states(site) == ["queued", *["succeeded"] * 5]
    assert output.rstrip().endswith("The worker has ended.\nJobs are left: 1 job waiting, 1 scheduled.")
    assert site.rows(WORKERS) == []


@pytest.mark.nightly
def test_max_jobs(site):
    """It starts exactly so many jobs, and those that a running one waits for."""
    enqueue(site, "[noop.enqueue() for _ in range(5)]")
    site.manage("run_jobs", "--max-jobs", "2")
    assert states(site) == ["queued"] * 3 + ["succeeded"] * 2
    site.manage("run_jobs", "--until-idle")
    enqueue(site, "from tests.jobs.tasks import parent; parent.enqueue(7)")
    site.manage("run_jobs", "--max-jobs", "1")
    assert states(site) == ["succeeded"] * 7


def test_processes_are_replaced_and_stopped(site):
    """A killed one is replaced. SIGTERM ends all, without jobs lost, and the exit code is 0."""
    enqueue(site, "pass")
    supervisor = site.start("supervisor", "manage.py", "run_jobs", "--processes", "2")
    supervisor.wait_until(lambda: len(site.rows(WORKERS)) == 2, what="two workers")
    children = children_of(supervisor.pid)
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)
    supervisor.wait_for_line(f"(pid {children[0]}) ended with signal 9. It is started again in 1 s.")
    supervisor.wait_until(lambda: len(children_of(supervisor.pid)) == 2, what="another process")
    supervisor.wait_until(lambda: supervisor.output.count("Ctrl-C ends it.") == 3, what="another worker")
    enqueue(site, "[noop.enqueue() for _ in range(5)]")
    supervisor.wait_until(lambda: states(site) == ["succeeded"] * 5, what="the jobs to be done")
    children = children_of(supervisor.pid)
    supervisor.popen.terminate()
    assert supervisor.popen.wait(90) == 0
    assert not any(map(is_running, children))
    assert supervisor.output.rstrip().endswith("All worker processes have ended.")
    assert "Traceback" not in supervisor.output


def test_processes_end_with_a_killed_supervisor(site):
    """No worker is left behind."""
    enqueue(site, "pass")
    supervisor = site.start("supervisor", "manage.py", "run_jobs", "--processes", "2")
    supervisor.wait_until(lambda: supervisor.output.count("Ctrl-C ends it.") == 2, what="two workers")
    children = children_of(supervisor.pid)
    supervisor.kill()
    wait_until(lambda: not any(map(is_running, children)), what="the workers to end", timeout=90)
    assert site.rows(WORKERS) == []


def results(site):
    return [json.loads(result) for (result,) in site.rows("SELECT result FROM notifications_job ORDER BY id")]


def test_programs_that_tasks_start_read_no_input(site):
    """One that waits for the end of its input does not wait for the supervisor's, whose pipe no program inherits."""
    enqueue(site, "from tests.commands.test_worker_processes import read_input; read_input.enqueue()")
    enqueue(
        site, "from tests.commands import test_worker_processes as t; t.list_inherited_descriptors.enqueue()"
    )
    site.manage("run_jobs", "--processes", "1", "--until-idle")
    assert results(site) == ["", ["0", "1", "2"]]


def test_a_hang_up_stops_all_within_the_grace_period(site, tmp_path):
    """As at the end of an SSH session: the running job is done."""
    go = tmp_path / "go"
    enqueue(
        site,
        "from tests.jobs import process_tasks as p\n"
        f"p.write_and_wait.enqueue({str(tmp_path / 'started')!r}, {str(go)!r})",
    )
    supervisor = site.start("supervisor", "manage.py", "run_jobs", "--processes", "1")
    supervisor.wait_until((tmp_path / "started").exists, what="the job to run")
    supervisor.popen.send_signal(signal.SIGHUP)
    [child] = children_of(supervisor.pid)
    go.touch()
    assert supervisor.popen.wait(90) == 0
    assert not is_running(child) and states(site) == ["succeeded"]


@pytest.mark.nightly
def test_processes_that_end_by_themselves(site):
    """With --max-jobs they are replaced, with --until-idle the supervisor ends with them."""
    enqueue(site, "[noop.enqueue() for _ in range(6)]")
    supervisor = site.start("supervisor", "manage.py", "run_jobs", "--processes", "1", "--max-jobs", "2")
    supervisor.wait_until(lambda: states(site) == ["succeeded"] * 6, what="the jobs to be done")
    supervisor.popen.terminate()
    assert supervisor.popen.wait(90) == 0
    assert supervisor.output.count("The worker has ended.") >= 3
    enqueue(site, "[noop.enqueue() for _ in range(6)]")
    site.manage("run_jobs", "--processes", "2", "--until-idle")
    assert states(site) == ["succeeded"] * 12


def test_processes_that_crash_again_and_again(monkeypatch, set_bounds):
    """It gives up after MAX_CRASHES in a row, with pauses that double."""
    set_bounds(retries=0.01)
    monkeypatch.setattr(worker_processes, "MAX_CRASHES", 3)
    lines = []
    command = [sys.executable, "-S", "-c", "raise SystemExit(7)"]
    supervisor = Supervisor(command, 1, grace=0, replaces_finished=True, write=lines.append)
    assert "ended with exit code 7, 3 times in a row. All are stopped." in supervisor.run()
    assert [line.partition("again in ")[2] for line in lines] == ["0.01 s.", "0.02 s."]


def test_a_process_that_does_not_end(monkeypatch):
    """It is killed after the grace period."""
    monkeypatch.setattr(worker_processes, "STOP_MARGIN_SECONDS", 0.1)
    code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
    supervisor = Supervisor(
        [sys.executable, "-S", "-c", code], 1, grace=0, replaces_finished=True, write=print
    )
    slot = supervisor._slots[0]
    supervisor._check(slot)
    pid = slot.process.pid
    wait_until(lambda: ignores_sigterm(pid), what="the process to ignore SIGTERM", timeout=60)
    supervisor._is_stopping = True
    assert f"(pid {pid}) did not end in time and was killed" in supervisor.run()
    assert not is_running(pid)


@pytest.mark.nightly
def test_reload(site, tmp_path):
    """A change of a module starts another worker; Ctrl-C ends it."""
    enqueue(site, "pass")
    (tmp_path / "reloaded_settings.py").write_text("from tests.site_settings import *\n")
    site.environment |= {"DJANGO_SETTINGS_MODULE": "reloaded_settings", "PYTHONPATH": str(tmp_path)}
    worker = site.start("reloading", "manage.py", "run_jobs", "--reload")
    worker.wait_until(lambda: len(site.rows(WORKERS)) == 1, what="a worker")
    [first] = site.rows(WORKERS)

    def change_and_look():
        # Again and again: the reloader compares with the times at its first look, which may be after this.
        (tmp_path / "reloaded_settings.py").write_text("from tests.site_settings import *\n# changed\n")
        return first not in site.rows(WORKERS) and site.rows(WORKERS)

    worker.wait_until(change_and_look, what="another worker", timeout=90)
    worker.popen.send_signal(signal.SIGINT)
    for pid in children_of(worker.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    assert worker.popen.wait(90) in (0, 130)
    assert "Traceback" not in worker.output


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return list(map(int, file.read().split()))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ignores_sigterm(pid):
    with open(f"/proc/{pid}/status") as file:
        [line] = [line for line in file if line.startswith("SigIgn:")]
    return int(line.split()[1], 16) & (1 << (signal.SIGTERM - 1))
