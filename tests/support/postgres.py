"""A PostgreSQL cluster on a free port, in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.network import free_port
from tests.support.processes import Process
from tests.support.requirements import find_program, skip_or_fail

PROGRAM_PATTERNS = ("/usr/lib/postgresql/*/bin/{}", "/usr/local/pgsql/bin/{}")


class Postgres:
    """A running cluster. url(name) returns a DATABASE_URL, create(name, template) creates a database.

    crash() stops it as pg_ctl stop -m immediate does, and start() starts it again.

    Without `fsync` a crash of the server loses nothing, only one of the machine does, and tests do not time out on a
    slow disk. With it, as in production, the time of a commit decides which races occur.
    """

    def __init__(self, *, fsync=True):
        server = self._program("postgres")
        self.psql = self._program("psql", package="postgresql-client")
        self.folder = Path(tempfile.mkdtemp(prefix="asyncsite-postgres-"))
        self.port = free_port()
        privileges = unprivileged()
        if privileges:
            shutil.chown(self.folder, privileges["user"], privileges["group"])
        data = self.folder / "data"
        initialize = [*self._initialize(), "-D", data, "-U", "tests", "--no-sync"]
        subprocess.run(initialize, check=True, capture_output=True, cwd="/", **privileges)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 300,
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
        }
        settings = (part for item in options.items() for part in ("-c", "{}={}".format(*item)))
        self.command = [server, "-D", data, *settings]
        self.start()

    def _initialize(self):
        """Return the command that makes the cluster's files, without its folder and user."""
        return [self._program("initdb"), "--auth=trust", "--encoding=UTF8", "--no-locale"]

    def start(self):
        self.process = Process(self.command, log=self.folder.with_suffix(".log"), cwd="/", **unprivileged())
        self.process.wait_until(self._accepts_connections, what="PostgreSQL to accept connections")

    def crash(self):
        self.process.popen.send_signal(signal.SIGQUIT)
        self.process.popen.wait(60)

    def url(self, name):
        return f"postgres://tests@127.0.0.1:{self.port}/{name}"

    def create(self, name, *, template="template0"):
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop(self, name):
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def run(self, sql):
        """Execute a statement, and return what it prints."""
        return subprocess.run(
            [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url("postgres"), "-c", sql],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def stop(self):
        self.crash()  # Without a checkpoint: nothing of it is kept.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.process.log.unlink(missing_ok=True)

    def _accepts_connections(self):
        probe = [self.psql, "-XqAt", "-d", self.url("postgres"), "-c", "SELECT 1"]
        return subprocess.run(probe, capture_output=True).returncode == 0

    @staticmethod
    def _program(name, package="postgresql"):
        return find_program(
            name, package=package, patterns=[pattern.format(name) for pattern in PROGRAM_PATTERNS]
        )


def unprivileged():
    """Return arguments for subprocess that drop root's privileges: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return skip_or_fail("PostgreSQL does not run as root, and there is no user postgres or nobody.")
