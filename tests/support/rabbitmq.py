"""A RabbitMQ server on free ports, in a temporary folder."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.network import free_port, is_listening
from tests.support.processes import Process, child_pids
from tests.support.requirements import find_program
from tests.support.waiting import wait_until

#: It takes a minute to start on a busy machine, and more beside others.
START_SECONDS = 180


class RabbitMQ:
    """A running server at `url`. After kill() and start() it has what it had stored."""

    def __init__(self):
        # Not the script of Debian in /usr/sbin, which changes the user.
        self.program = find_program(
            "no-such-name", package="rabbitmq-server", patterns=["/usr/lib/rabbitmq/bin/rabbitmq-server"]
        )
        self.folder = Path(tempfile.mkdtemp(prefix="asyncsite-rabbitmq-"))
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        #: The port mapper of Erlang stays when the server ends; this one is its own.
        self.mapper_port = free_port()
        self.environment = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"),  # not in the folder of the repository
            "RABBITMQ_NODENAME": f"tests-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        self.start()

    def start(self):
        # In its folder, into which it writes a core dump when it is killed.
        self.process = Process(
            [self.program], log=self.folder / "server.log", env=self.environment, cwd=self.folder
        )
        self.process.wait_until(
            lambda: is_listening(self.port), what="RabbitMQ to accept connections", timeout=START_SECONDS
        )

    def kill(self):
        # The program is a script, and the server its child.
        children = child_pids(self.process.pid)
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_listening(self.port), what="the end of RabbitMQ")

    def stop(self):
        self.process.stop()
        with contextlib.suppress(OSError):
            subprocess.run(["epmd", "-kill"], env=self.environment, capture_output=True, timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)
