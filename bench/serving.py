"""A server that is measured: newly started, pinned to a core, with its CPU time and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from bench.latency import free_port
from bench.measured_queue import process_cpu

#: With a large backlog: Daphne's default is 50, and the kernel repeats others a second later. And with a long
#: timeout for handshakes: Daphne's 5 s are too short for thousands of stock sockets.
DAPHNE = ["-v", "0", "-e", "tcp:{port}:interface=127.0.0.1:backlog=2048", "--websocket_connect_timeout", "60"]
SERVERS = {
    "daphne": ["-m", "daphne", *DAPHNE, "{application}"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "--log-level", "error", "{application}"],
}


class Server:
    """``with Server("daphne", core=0) as server``. The environment configures it; ``options`` are those of Popen."""

    def __init__(
        self, name: str, core: int | None, application: str = "bench.asgi:application", **options: Any
    ) -> None:
        self.port = free_port()
        command = [part.format(port=self.port, application=application) for part in SERVERS[name]]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the server)
        self._process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=self._errors, **options
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def __enter__(self) -> Server:
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def get(self, path: str, within: float = 120.0) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=within) as response:
            return json.load(response)

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu(self) -> float:
        """Return the CPU seconds of the process (user and system, all threads), to the nanosecond."""
        return process_cpu(self._process.pid)

    def memory(self) -> float:
        """Return the resident memory of the process in KB."""
        with open(f"/proc/{self._process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024

    def wait_until_idle(self, within: float = 30.0) -> None:
        """Wait until the process uses less than a tenth of a core."""
        until = time.monotonic() + within
        busy = 1.0
        while busy > 0.1 and time.monotonic() < until:
            before, start = self.cpu(), time.monotonic()
            time.sleep(0.5)
            busy = (self.cpu() - before) / (time.monotonic() - start)

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < until:
            try:
                self.get("setup/", within=5)
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        self._errors.seek(0)
        raise SystemExit(f"The server does not respond.\n{self._errors.read().decode()[-2000:]}")


class Redis:
    """A Redis server without persistence."""

    def __init__(self) -> None:
        port = free_port()
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("redis-server is not installed. Skip the layer: --layers memory")
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = Path(tempfile.mkdtemp(prefix="bench-redis-"))
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder)
