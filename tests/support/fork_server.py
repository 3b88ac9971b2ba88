"""Run Python programs in forks of processes that have imported what they need: a start takes a second of a core.

program = start(["manage.py", "run_jobs"], environment, output=file)      # in a test; like subprocess.Popen
server = SiteServer(environment); server.start(["manage.py", "migrate"], output=file); server.stop()
python -m tests.support.fork_server SOCKET                                 # the process that they start

The process of this module has imported libraries, but nothing that reads settings. A program is a fork of it, or of
a SiteServer, a fork that has set Django up in the environment of one site. Each program has a process of its own, with
its own connections, and the arguments, environment and files that it would have if it were started by itself.
"""

import array
import contextlib
import fcntl
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import weakref
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: What takes most of the time to import, and reads no settings. OpenTelemetry, and so redis, is left to the programs:
#: the app looks whether they have imported it.
LIBRARIES = (
    "aiohttp",
    "autobahn.twisted.websocket",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "channels.layers",
    "daphne.http_protocol",
    "django.contrib.admin.options",
    "django.contrib.staticfiles.handlers",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.autodetector",
    "django.db.models",
    "django.template.context_processors",
    "django.views.generic",
    "twisted.internet.asyncioreactor",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
)
#: Variables that Python and the C library read before a program runs.
READ_AT_START = ("LANG", "LC_", "LD_", "MALLOC_", "PYTHON")


class Program:
    """A program in a fork, with the interface of subprocess.Popen."""

    def __init__(self, arguments, connection):
        self.args = [sys.executable, *arguments]
        self.returncode = None
        self._connection = connection
        # A test may forget a program that it has killed. The warning would come in another test.
        weakref.finalize(self, connection.close)
        self._lock = threading.Lock()
        self.pid = self._receive_number()
        # A pid that has ended may soon be that of another process.
        with contextlib.suppress(ProcessLookupError):
            self._process = os.pidfd_open(self.pid)
            weakref.finalize(self, os.close, self._process)

    def poll(self):
        with self._lock:
            if self.returncode is None and self._has_ended(0):
                self.returncode = self._receive_number()
                self._connection.close()
        return self.returncode

    def wait(self, timeout=None):
        end_at = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            seconds = None if end_at is None else end_at - time.monotonic()
            if seconds is not None and seconds <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout)
            with contextlib.suppress(OSError, ValueError):  # Another thread may see the end, and close it.
                self._has_ended(seconds)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            with contextlib.suppress(
                ProcessLookupError, AttributeError
            ):  # It has ended, at once in the second case.
                signal.pidfd_send_signal(self._process, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, seconds):
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _receive_number(self):
        return struct.unpack("i", self._connection.recv(4, socket.MSG_WAITALL))[0]


class SiteServer:
    """A process with Django set up in one environment."""

    def __init__(self, environment):
        self.environment = environment
        self._folder = tempfile.mkdtemp(prefix="site-server-")
        self._socket = f"{self._folder}/socket"
        request = {"environment": environment, "socket": self._socket}
        with open(os.devnull, "r+b") as null:
            self._connection = connect(_libraries.socket, request, (null, null, null))
        weakref.finalize(self, self._connection.close)  # as in Program
        #: It is not if setting up fails, which a program that is started by itself will tell, or starts threads.
        self.is_started = self._connection.recv(1) == b"1"

    def start(self, arguments, *, input=None, output, errors=None):
        """Start a program with these files as standard input, output and errors."""
        return start_at(self._socket, arguments, None, input, output, errors)

    def stop(self):
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Libraries:
    """The process that has imported the libraries. It is started when it is first needed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._folder = self._popen = None
        self._end = subprocess.PIPE

    def share(self, folder, end):
        """Have all processes that call this with a folder use one process, which ends when `end` is closed."""
        self._folder, self._end = folder, end

    @property
    def socket(self):
        with self._lock:
            self._folder = self._folder or tempfile.mkdtemp(prefix="fork-server-")
            path = f"{self._folder}/socket"
            if not os.path.exists(path):
                with open(f"{self._folder}/lock", "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if not os.path.exists(path):
                        self._start(path)
        return path

    def _start(self, path):
        self._popen = subprocess.Popen(
            [sys.executable, "-m", __name__, f"{path}.new"],
            env=environment_at_start(),
            cwd=ROOT,
            stdin=self._end,
            stdout=subprocess.PIPE,
        )
        assert self._popen.stdout.readline() == b"ready\n"
        os.rename(f"{path}.new", path)

    def stop(self):
        with self._lock:
            if self._popen and self._popen.stdin:  # not one that others use
                self._popen.stdin.close()
                try:
                    self._popen.wait(20)
                except subprocess.TimeoutExpired:
                    self._popen.kill()
                    self._popen.wait()
                self._popen.stdout.close()
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = self._popen = None


_libraries = Libraries()
share, stop = _libraries.share, _libraries.stop


def environment_at_start():
    return os.environ | {"PYTHONUNBUFFERED": "1"}


def can_start(arguments, environment):
    """Return whether a fork can run a program as if it were started by itself, with nothing that is read before."""
    own = environment_at_start()
    read = [name for name in own.keys() | environment.keys() if name.startswith(READ_AT_START)]
    is_python = arguments[0] in ("-m", "-c") or str(arguments[0]).endswith(".py")
    return is_python and all(own.get(name) == environment.get(name) for name in read)


def start(arguments, environment, *, folder=None, input=None, output, errors=None):
    """Start a program with this environment and these files. can_start() says whether that is possible.

    With a folder, the program runs in it, and imports from it first.
    """
    return start_at(_libraries.socket, arguments, environment, input, output, errors, folder=folder)


def start_at(path, arguments, environment, input, output, errors, *, folder=None):
    arguments = [str(argument) for argument in arguments]
    request = {"arguments": arguments, "environment": environment, "folder": folder and str(folder)}
    with open(os.devnull, "rb") as null:
        return Program(arguments, connect(path, request, (input or null, output, errors or output)))


def connect(path, request, files):
    """Send a request with open files, and return the connection."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    descriptors = array.array("i", [file.fileno() for file in files])
    # A message of its own, because a long one is not sent at once.
    connection.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    data = json.dumps(request).encode()
    connection.sendall(struct.pack("i", len(data)) + data)
    return connection


# In the process itself.


def serve(listening, end):
    """Fork a process for each connection, and return the connection there. End when `end` is closed."""
    while True:
        ready, _, _ = select.select([listening, end], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if end in ready:
            with contextlib.suppress(
                ChildProcessError
            ):  # so that their time counts as that of pytest's children
                while os.wait():
                    pass
            os._exit(0)
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            end.close()
            return connection
        connection.close()


def handle(connection):
    """Return the arguments of the program to run, in a process that is to run it."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    (size,) = struct.unpack("i", connection.recv(4, socket.MSG_WAITALL))
    request = json.loads(connection.recv(size, socket.MSG_WAITALL))
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request["environment"] is not None:
        os.environ.clear()
        os.environ.update(request["environment"])
    if path := request.get("socket"):
        set_up_django()
        listening = listen(path)
        connection.sendall(b"%d" % (threading.active_count() == 1))
        return handle(serve(listening, connection))
    if pid := os.fork():
        wait_for_program(pid, connection)
    connection.close()
    if folder := request["folder"]:
        os.chdir(folder)
        sys.path.insert(0, folder)
    return request["arguments"]


def wait_for_program(pid, connection):
    """Send the pid of a program and its exit code, and exit. Exit before its end when nothing waits for it."""
    connection.sendall(struct.pack("i", pid))
    ended = os.pidfd_open(pid)
    select.select([ended, connection], [], [])
    with contextlib.suppress(OSError):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            connection.sendall(struct.pack("i", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    os._exit(0)


def set_up_django():
    import django

    django.setup()
    from django.core import checks
    from django.db import connections

    checks.run_checks()  # imports what the URLs name, as each program does
    connections.close_all()
    gc.freeze()


def listen(path):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(100)
    return listening


def run(arguments):
    """Run a program as `python *arguments` does."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.orig_argv = [sys.executable, *arguments]
    sys.argv = list(arguments)
    match arguments[0]:
        case "-m":
            del sys.argv[0]
            runpy._run_module_as_main(arguments[1])
        case "-c":
            del sys.argv[1]
            exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
        case path:
            main.__file__ = path
            exec(compile(Path(path).read_text(), path, "exec"), main.__dict__)


if __name__ == "__main__":
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # Celery and psycopg are optional.
            import_module(library)
    server = listen(sys.argv[1])
    print("ready", flush=True)
    gc.freeze()
    run(handle(serve(server, os.fdopen(os.dup(0)))))
