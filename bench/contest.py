"""A queue under measurement: the process that asks, its workers, and what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PYTHON = sys.executable
TICKS = os.sysconf("SC_CLK_TCK")


class Answer(NamedTuple):
    value: Any
    seconds: float
    cpu: float


@dataclass(kw_only=True)
class Queue:
    """``workers(processes, concurrency)`` are the commands that make that many worker processes."""

    name: str
    module: str
    environment: dict[str, str]
    workers: Callable[[int, int], list[list[str]]]
    measures: set[str]
    #: Jobs of a round: a few seconds' worth.
    jobs: int = 0
    pickups: int = 200

    def __post_init__(self) -> None:
        self.environment = {**os.environ, **self.environment}
        self._asker: subprocess.Popen[str] | None = None
        self._log = tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log")  # noqa: SIM115

    def call(self, name: str, *args: Any) -> Answer:
        """Call a function of the module in the process that asks."""
        if self._asker is None:
            command = [PYTHON, "-m", "bench.asker", self.module]
            self._asker = self._start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._asker.stdin and self._asker.stdout
        self._asker.stdin.write(json.dumps([name, *args]) + "\n")
        self._asker.stdin.flush()
        if not (line := self._asker.stdout.readline()):
            raise RuntimeError(f"{self.name}: {name} failed.\n{self.said()}")
        return Answer(*json.loads(line))

    def said(self) -> str:
        """Return the end of what its processes said."""
        return Path(self._log.name).read_text()[-3000:]

    def end(self) -> None:
        if self._asker:
            self._asker.communicate(timeout=30)
            self._asker = None

    @contextlib.contextmanager
    def working(self, processes: int = 1, concurrency: int = 100) -> Iterator[Workers]:
        """Run workers meanwhile."""
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

    def _start(self, command: list[str], **how: Any) -> subprocess.Popen[Any]:
        how = {"stdout": self._log, "stderr": self._log, **how}
        return subprocess.Popen(command, env=self.environment, **how)


class Workers:
    """The processes of started workers, with those that they start themselves."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids

    def cpu(self) -> float:
        """Return the CPU seconds used until now."""
        return sum(sum(map(int, fields[11:13])) for _, fields in self._all()) / TICKS

    def memory(self) -> float:
        """Return the greatest resident memory until now, in MB."""
        peaks = 0
        for pid, _ in self._all():
            status = Path(f"/proc/{pid}/status").read_text()
            peaks += int(status.partition("VmHWM:")[2].split()[0])
        return peaks / 1024

    def _all(self) -> list[tuple[int, list[str]]]:
        family, found = set(self.pids), []
        for pid in sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if pid in family or int(fields[1]) in family:
                    family.add(pid)
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
    begun: Callable[[], None] = lambda: None,
    *,
    skip: float = 0.05,
) -> Drained:
    """Wait until all jobs are done; the start of the workers and the first ``skip`` of the jobs are left out."""
    patience = time.monotonic() + 180
    first: tuple[float, float, int] | None = None
    while True:
        queued, running = queue.call("counts").value
        now = time.perf_counter()
        if first is None and queued < number * (1 - skip):
            begun()
            first = now, workers.cpu(), queued + running
        if first and not queued and not running:
            break
        if time.monotonic() > patience:
            raise RuntimeError(f"{queue.name}: {queued} jobs wait after 180 s.\n{queue.said()}")
        time.sleep(0.02)
    took, done = now - first[0], first[2]
    return Drained(done / took, (workers.cpu() - first[1]) / done * 1e6, took, workers.memory())
