"""A process that a test starts, with its log."""

import contextlib
import signal
import subprocess
from pathlib import Path

from tests.support.waiting import wait_until


def run(*command, timeout=120, **options):
    """Run a program and return its output; fail with the output if its exit code is not 0."""
    command = [str(part) for part in command]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    return read_command_output(command, completed.returncode, completed.stdout, completed.stderr)


def read_command_output(command, exit_code, stdout, stderr):
    """Return what a program wrote to standard output; fail with all its output if its exit code is not 0."""
    assert exit_code == 0, f"{command}: exit {exit_code}\n{stdout}{stderr}"
    return stdout


class Process:
    """A running program with its output in the file `log`. Signals are sent to its own pid only.

    `start(output)` starts it in another way than `command` says, and returns what has the interface of a Popen.
    """

    def __init__(self, command, *, log, start=None, **options):
        self.command = [str(part) for part in command]
        self.log = Path(log)
        with open(self.log, "ab") as output:
            self.popen = start(output) if start else self._start(output, **options)
        self.pid = self.popen.pid

    def _start(self, output, **options):
        return subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    @property
    def running(self):
        return self.popen.poll() is None

    def wait_until(self, condition, *, what, timeout=60.0):
        """Wait for a condition; fail with the log if the process ends before."""

        def is_met_or_ended():
            if value := condition():
                return (value,)
            return not self.running

        try:
            result = wait_until(is_met_or_ended, timeout=timeout, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error} Log of {self.command[-3:]}:\n{self.output}") from error
        if result is True:
            raise AssertionError(f"Ended with {self.popen.returncode} before {what}. Log:\n{self.output}")
        return result[0]

    def wait_for_line(self, text, *, timeout=60.0):
        """Wait until the log contains `text`."""
        return self.wait_until(lambda: text in self.output, what=f"{text!r} in the log", timeout=timeout)

    def kill(self):
        """Send SIGKILL and wait for the end."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def interrupt(self):
        self.popen.send_signal(signal.SIGINT)

    def stop(self, timeout=30.0):
        """Send SIGTERM, then SIGKILL after `timeout` seconds; return the exit code."""
        if self.running:
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode


def child_pids(pid):
    """Return the children of a process that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found
