"""A queue that is measured: the process that enqueues, the workers, and their CPU time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PYTHON = sys.executable
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: Seconds after which a round has failed.
GIVE_UP_SECONDS = 600.0


class Result(NamedTuple):
    value: Any
    seconds: float
    cpu: float


@dataclass(kw_only=True)
class Queue:
    """``workers(processes, concurrency)`` returns the commands that start the worker processes."""

    name: str
    module: str
    environment: dict[str, str]
    workers: Callable[[int, int], list[list[str]]]
    measures: set[str]
    #: Jobs in a round, enough for a few seconds.
    jobs: int = 0
    pickups: int = 200
    #: The folder of the code that is measured; by default that of this process.
    folder: Path | None = None
    #: The interpreter of the process that enqueues.
    python: str = PYTHON

    def __post_init__(self) -> None:
        self.environment = {**os.environ, **self.environment}
        self._enqueue_process: subprocess.Popen[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._log = tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log")  # noqa: SIM115

    def call(self, name: str, *args: Any) -> Result:
        """Call a function of the module in the process that enqueues."""
        if self._enqueue_process is None:
            command = [self.python, "-m", "bench.enqueue_process", self.module]
            self._enqueue_process = self._start(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._enqueue_process.stdin and self._enqueue_process.stdout
        self._enqueue_process.stdin.write(json.dumps([name, *args]) + "\n")
        self._enqueue_process.stdin.flush()
        if not (line := self._enqueue_process.stdout.readline()):
            raise RuntimeError(f"{self.name}: {name} failed.\n{self.read_log()}")
        return Result(*json.loads(line))

    def read_log(self) -> str:
        """Return the end of the processes' output."""
        return Path(self._log.name).read_text()[-3000:]

    def serve(self) -> int:
        """Start the site's server, once, and return its port when it answers."""
        if self._server is None:
            self._port = free_port()
            command = [PYTHON, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self._port)]
            self._server = self._start([*command, "asyncsite.asgi:application"])
            give_up_at = time.monotonic() + 60
            while not _accepts_connections(self._port):
                if self._server.poll() is not None or time.monotonic() > give_up_at:
                    raise RuntimeError(f"{self.name}: the server did not start.\n{self.read_log()}")
                time.sleep(0.1)
        return self._port

    def end(self) -> None:
        if self._server:
            self._server.terminate()
            self._server.wait(20)
            self._server = None
        if self._enqueue_process:
            self._enqueue_process.communicate(timeout=30)
            self._enqueue_process = None

    @contextlib.contextmanager
    def working(self, processes: int = 1, concurrency: int = 100) -> Iterator[Workers]:
        """Run workers during the block."""
        started = [self._start(command) for command in self.workers(processes, concurrency)]
        try:
            yield Workers([process.pid for process in started])
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _start(self, command: list[str], **options: Any) -> subprocess.Popen[Any]:
        options = {"stdout": self._log, "stderr": self._log, **options}
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, **options)


def process_cpu(pid: int) -> float:
    """Return the CPU seconds of a process (user and system, all threads), to the nanosecond."""
    # The clock of another process, as clock_getcpuclockid(3) names it.
    return time.clock_gettime((~pid << 3) | 2)


def free_port() -> int:
    """Return a port of this machine that no one uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Workers:
    """The processes of workers, with their child processes."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids

    def cpu(self) -> float:
        """Return the CPU seconds that they have used."""
        return sum(sum(map(int, fields[11:13])) for _, fields in self._all()) / TICKS_PER_SECOND

    def precise_cpu(self) -> float:
        """Return the same to the nanosecond, without their child processes."""
        return sum(map(process_cpu, self.pids))

    def memory(self) -> float:
        """Return the sum of their peak resident memory in MB."""
        peaks = 0
        for pid, _ in self._all():
            status = Path(f"/proc/{pid}/status").read_text()
            peaks += int(status.partition("VmHWM:")[2].split()[0])
        return peaks / 1024

    def _all(self) -> list[tuple[int, list[str]]]:
        pids, found = set(self.pids), []
        for pid in sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if pid in pids or int(fields[1]) in pids:
                    pids.add(pid)
                    found.append((pid, fields))
        return found


class Drained(NamedTuple):
    rate: float  # jobs/s
    cpu: float  # us of the workers for each job
    seconds: float
    memory: float  # MB


def drain(
    queue: Queue,
    workers: Workers,
    number: int,
    on_start: Callable[[], None] = lambda: None,
    *,
    skip: float = 0.05,
) -> Drained:
    """Wait until all jobs are done; return figures without the workers' start and the first ``skip`` of the jobs."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    first: tuple[float, float, int] | None = None
    while True:
        queued, running = queue.call("counts").value
        now = time.perf_counter()
        if first is None and queued < number * (1 - skip):
            on_start()
            first = now, workers.cpu(), queued + running
        if first and not queued and not running:
            break
        if time.monotonic() > give_up_at:
            raise RuntimeError(
                f"{queue.name}: {queued} jobs are still queued after {GIVE_UP_SECONDS:g} s.\n{queue.read_log()}"
            )
        # Counting takes CPU from the workers.
        time.sleep(0.1 if queued + running > number / 10 else 0.02)
    elapsed, done = now - first[0], first[2]
    return Drained(done / elapsed, (workers.cpu() - first[1]) / done * 1e6, elapsed, workers.memory())
