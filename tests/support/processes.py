"""A process that a test starts, with its log."""

import contextlib
import signal
import subprocess
from pathlib import Path

from tests.support.waiting import wait_until


def finish(*command, **how):
    """Run a program to its end and return what it printed; a non-zero exit is a failure that shows all of it."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **how)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Process:
    """A started program. `log` is the file that holds all it wrote. Only its own pid is ever signalled."""

    def __init__(self, command, *, log, env=None, cwd=None, **how):
        self.command = [str(part) for part in command]
        self.log = Path(log)
        with open(self.log, "ab") as output:
            self.popen = subprocess.Popen(
                self.command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **how,
            )
        self.pid = self.popen.pid

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    @property
    def running(self):
        return self.popen.poll() is None

    def wait_until(self, condition, *, what, timeout=60.0):
        """Wait for a condition; a process that ends meanwhile is a failure that shows its log."""

        def met_or_ended():
            if value := condition():
                return (value,)
            return not self.running

        try:
            met = wait_until(met_or_ended, timeout=timeout, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error} Log of {self.command[-3:]}:\n{self.output}") from error
        if met is True:
            raise AssertionError(f"Ended with {self.popen.returncode} before {what}. Log:\n{self.output}")
        return met[0]

    def wait_for_line(self, text, *, timeout=60.0):
        """Wait until `text` stands in the log."""
        return self.wait_until(lambda: text in self.output, what=f"{text!r} in the log", timeout=timeout)

    def kill(self):
        """kill -9, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def interrupt(self):
        self.popen.send_signal(signal.SIGINT)

    def stop(self, timeout=30.0):
        """SIGTERM, and SIGKILL if it does not end in time. Returns the exit code."""
        if self.running:
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode
