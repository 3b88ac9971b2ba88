"""The supervisor of ``manage.py run_jobs --processes N``: starts worker processes, and replaces those that end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Seconds between two looks at the processes.
POLL_INTERVAL_SECONDS = 0.1
#: A process that ran for this many seconds has not crashed at its start.
STABLE_SECONDS = 60.0
#: Crashes of one slot in a row, each before STABLE_SECONDS, after which the supervisor gives up.
MAX_CRASHES = 10
#: Seconds before a crashed process is replaced: doubled with each crash in a row, up to the maximum.
FIRST_RESTART_SECONDS, MAX_RESTART_SECONDS = 1.0, 30.0
#: Seconds beyond the grace period after which a process that does not end is killed.
STOP_MARGIN_SECONDS = 15.0


@dataclass(slots=True)
class Slot:
    """A place for one worker process: the process, or the time at which it is replaced."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    crashes: int = 0
    is_done: bool = False


class Supervisor:
    """Keeps ``count`` processes running until one of ``stop_signals``, which it passes on as SIGTERM.

    ``command``
        The arguments of a process, to which ``--supervisor-pipe`` is added: the descriptor of a pipe that is closed
        when this process ends, however it ends, so that no worker is left behind.
    ``grace``
        Seconds that a process may take to end.
    ``replaces_finished``
        Whether a process that ends with 0 is replaced. Otherwise ``run`` returns when all have ended so.
    ``write``
        Called with a line for each event.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        grace: float,
        replaces_finished: bool,
        write: Callable[[str], object],
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        #: Nothing is written to it: its processes read the end of the file when the write end is closed, which they
        #: do not inherit.
        self._pipe = os.pipe()
        self._command = [*command, f"--supervisor-pipe={self._pipe[0]}"]
        self._slots = [Slot(number) for number in range(1, count + 1)]
        self._grace = grace
        self._replaces_finished = replaces_finished
        self._write = write
        self._stop_signals = stop_signals
        self._is_stopping = False
        self._problem = ""

    def run(self) -> str:
        """Run the processes until a signal or their end. Return why it gave up, "" if it did not."""
        previous = {number: signal.signal(number, self._handle_signal) for number in self._stop_signals}
        try:
            while not self._is_stopping and not all(slot.is_done for slot in self._slots):
                for slot in self._slots:
                    self._check(slot)
                time.sleep(POLL_INTERVAL_SECONDS)
        finally:
            self._stop_processes()
            for end in self._pipe:
                os.close(end)
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._problem

    def _handle_signal(self, number: int, frame: object) -> None:
        self._is_stopping = True

    def _check(self, slot: Slot) -> None:
        if slot.process is None:
            if not slot.is_done and not self._is_stopping and time.monotonic() >= slot.start_at:
                self._start(slot)
            return
        code = slot.process.poll()
        if code is None:
            return
        pid = slot.process.pid
        slot.process = None
        if code == 0 and not self._replaces_finished:
            slot.is_done = True
        elif code == 0:
            slot.crashes = 0
        else:
            self._count_crash(slot, pid, f"signal {-code}" if code < 0 else f"exit code {code}")

    def _start(self, slot: Slot) -> None:
        slot.started_at = time.monotonic()
        try:
            # In a session of its own, so that Ctrl-C in a terminal reaches it by this process only, once.
            slot.process = subprocess.Popen(  # noqa: S603  (the command that started this process)
                self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=[self._pipe[0]],
                start_new_session=True,
            )
        except OSError as exc:  # no memory, or too many processes
            self._count_crash(slot, None, exc)

    def _count_crash(self, slot: Slot, pid: int | None, reason: object) -> None:
        now = time.monotonic()
        slot.crashes = 1 if now - slot.started_at > STABLE_SECONDS else slot.crashes + 1
        what = f"Worker process {slot.number}" + ("" if pid is None else f" (pid {pid})")
        what += f" ended with {reason}" if pid is not None else f" could not be started: {reason}"
        if slot.crashes >= MAX_CRASHES:
            self._problem = (
                f"{what}, {slot.crashes} times in a row. All are stopped. "
                "See the log for the reason, and start again."
            )
            self._is_stopping = True
            return
        pause = min(FIRST_RESTART_SECONDS * 2 ** (slot.crashes - 1), MAX_RESTART_SECONDS)
        slot.start_at = now + pause
        self._write(f"{what}. It is started again in {pause:g} s.")

    def _stop_processes(self) -> None:
        """Send SIGTERM to all processes, and kill those that have not ended within the grace period and a margin."""
        running = [slot for slot in self._slots if slot.process is not None]
        for slot in running:
            assert slot.process is not None
            slot.process.terminate()
        deadline = time.monotonic() + self._grace + STOP_MARGIN_SECONDS
        for slot in running:
            assert slot.process is not None
            try:
                slot.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._problem = self._problem or (
                    f"Worker process {slot.number} (pid {slot.process.pid}) did not end in time and was killed. "
                    "Its jobs are run again."
                )
                slot.process.kill()
                slot.process.wait()
            slot.process = None
