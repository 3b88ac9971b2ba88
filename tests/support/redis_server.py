"""A Redis server of our own, on a free port, that keeps nothing on disk."""

import shutil
import tempfile
from pathlib import Path

from tests.support.network import free_port, listens
from tests.support.processes import Process
from tests.support.requirements import program


class Redis:
    """A running server at `url`. kill() and start() make it go away and come back empty."""

    def __init__(self):
        self.program = program("redis-server", package="redis-server")
        self.folder = Path(tempfile.mkdtemp(prefix="asyncsite-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        options = ["--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = Process([self.program, *options, "--dir", self.folder], log=self.folder / "redis.log")
        self.process.wait_until(lambda: listens(self.port), what="Redis to accept connections")

    def kill(self):
        self.process.kill()

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
