"""`make run` in a fresh clone, as a newcomer types it."""

import os
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

from asyncsite.environment import NAMES
from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.site import ROOT

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300), pytest.mark.nightly]

READY = "Press Ctrl-C to stop."


@pytest.fixture
def clone(tmp_path):
    """What git would give to another person, changes that are not committed yet included."""
    folder = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def make(clone):
    """Starts a target of the Makefile in a process group of its own, as a terminal does."""
    started = []

    def start(target, **variables):
        env = {
            key: value for key, value in os.environ.items() if key not in (*NAMES, "DJANGO_SETTINGS_MODULE")
        }
        log = clone.parent / f"{target}-{len(started)}.log"
        process = Process(["make", target], log=log, cwd=clone, env=env | variables, process_group=0)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.running:
            os.killpg(process.pid, signal.SIGTERM)
            process.popen.wait(60)


def test_make_run_and_worker(make):
    """Both started at once in a fresh clone set it up; the next start is ready within 5 s; Ctrl-C ends each cleanly.

    Where the machine is slow, or busy, within a quarter of what the first one took.
    """
    port = str(free_port())
    began = time.monotonic()
    both = [make(target, PORT=port, EMBEDDED_WORKER="0") for target in ("run", "worker")]
    for process, ready in zip(both, (READY, "jobs at a time"), strict=True):
        process.wait_for_line(ready, timeout=240)
    first = time.monotonic() - began
    assert f"The site is at http://127.0.0.1:{port}/" in both[0].output
    assert "make worker" in both[0].output
    for process in both:
        press_ctrl_c(process)
    assert not is_listening(int(port))

    began = time.monotonic()
    again = make("run", PORT=port)
    again.wait_for_line(READY)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=30) as response:
        assert response.status == 200
    assert time.monotonic() - began < max(5, first / 4)
    press_ctrl_c(again)


def press_ctrl_c(process):
    """Interrupt the whole group, as a terminal does. make itself ends as one that was interrupted."""
    os.killpg(process.pid, signal.SIGINT)
    assert process.popen.wait(60) in (0, 2, 130, -signal.SIGINT)
    assert "Traceback" not in process.output
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)
