"""A Redis server on a free port, without persistence."""

import shutil
import tempfile
from pathlib import Path

from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.requirements import find_program


class Redis:
    """A running server at `url`. After kill() and start() it is empty."""

    def __init__(self):
        self.program = find_program("redis-server", package="redis-server")
        self.folder = Path(tempfile.mkdtemp(prefix="asyncsite-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        options = ["--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = Process([self.program, *options, "--dir", self.folder], log=self.folder / "redis.log")
        self.process.wait_until(lambda: is_listening(self.port), what="Redis to accept connections")

    def kill(self):
        self.process.kill()

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
