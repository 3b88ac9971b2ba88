"""Run a site's management commands in forks of one process, which has imported Django and the site already.

server = CommandServer(folder, environment); server.run("notify", "demo", "Hello")     # in a test
python -m tests.support.command_server SOCKET                                         # the process that it starts

Each command still has a process of its own, with its own connections, but not the second that the imports take.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.processes import read_command_output

ROOT = Path(__file__).resolve().parent.parent.parent
#: Seconds that a command may take.
COMMAND_TIMEOUT_SECONDS = 120


class CommandServer:
    """The process for one environment. It ends with the process that made it."""

    def __init__(self, environment):
        self.environment = environment
        self.folder = tempfile.mkdtemp(prefix="commands-")
        self.socket = f"{self.folder}/socket"
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.support.command_server", self.socket],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.is_started = self.popen.stdout.readline() == "ready\n"

    def run(self, *arguments, input=None):
        """Run a command and return its output; fail with the output if its exit code is not 0."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            paths = [str(Path(folder) / name) for name in ("stdin", "stdout", "stderr")]
            Path(paths[0]).write_text(input or "")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(COMMAND_TIMEOUT_SECONDS)
                connection.connect(self.socket)
                connection.sendall(json.dumps([paths, [str(part) for part in arguments]]).encode() + b"\n")
                code = int(connection.makefile().readline() or "-1")
            stdout, stderr = (Path(path).read_text() for path in paths[1:])
        return read_command_output(["manage.py", *arguments], code, stdout, stderr)

    def stop(self):
        self.popen.communicate()  # closes its standard input
        with contextlib.suppress(OSError):
            os.unlink(self.socket)
            os.rmdir(self.folder)


def serve(path):
    """Fork a process for each command, until standard input is closed. Returns in the process of a command."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(100)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if sys.stdin in ready:
                os._exit(0)
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                return wait_for_command(connection)
            connection.close()


def wait_for_command(connection):
    """Fork once more: this process waits for the command and sends its exit code, the other one returns."""
    paths, arguments = json.loads(connection.makefile().readline())
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    connection.close()
    for number, path in enumerate(paths):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["manage.py", *arguments]


if __name__ == "__main__":
    import django

    django.setup()
    from django.core import checks
    from django.db import connections

    import manage

    checks.run_checks()  # imports what the URLs name, as each command does
    connections.close_all()
    serve(sys.argv[1])
    manage.main()
