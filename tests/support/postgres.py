"""A PostgreSQL cluster of our own, on a free port, in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.network import free_port
from tests.support.processes import Process
from tests.support.requirements import missing, program

PLACES = ("/usr/lib/postgresql/*/bin/{}", "/usr/local/pgsql/bin/{}")


class Postgres:
    """A running cluster. `url(name)` is a DATABASE_URL; create(name, template) makes a database.

    crash() ends it at once, as pg_ctl stop -m immediate does, and start() brings it back.

    fsync stays on, as it is anywhere else: what a commit costs decides which races are met.
    """

    def __init__(self):
        initdb = self._program("initdb")
        server = self._program("postgres")
        self.psql = self._program("psql", package="postgresql-client")
        self.folder = Path(tempfile.mkdtemp(prefix="asyncsite-postgres-"))
        self.port = free_port()
        how = unprivileged()
        if how:
            shutil.chown(self.folder, how["user"], how["group"])
        data = self.folder / "data"
        subprocess.run(
            [
                initdb,
                "-D",
                data,
                "-U",
                "tests",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **how,
        )
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 300,
        }
        settings = (part for item in options.items() for part in ("-c", "{}={}".format(*item)))
        self.command = [server, "-D", data, *settings]
        self.start()

    def start(self):
        self.process = Process(self.command, log=self.folder.with_suffix(".log"), cwd="/", **unprivileged())
        self.process.wait_until(self._answers, what="PostgreSQL to accept connections")

    def crash(self):
        self.process.popen.send_signal(signal.SIGQUIT)
        self.process.popen.wait(30)

    def url(self, name):
        return f"postgres://tests@127.0.0.1:{self.port}/{name}"

    def create(self, name, *, template="template0"):
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop(self, name):
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def run(self, sql):
        subprocess.run(
            [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url("postgres"), "-c", sql],
            check=True,
            capture_output=True,
        )

    def stop(self):
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        self.process.interrupt()
        self.process.popen.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.process.log.unlink(missing_ok=True)

    def _answers(self):
        probe = [self.psql, "-XqAt", "-d", self.url("postgres"), "-c", "SELECT 1"]
        return subprocess.run(probe, capture_output=True).returncode == 0

    @staticmethod
    def _program(name, package="postgresql"):
        return program(name, package=package, places=[place.format(name) for place in PLACES])


def unprivileged():
    """Arguments for subprocess that drop root's rights: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return missing("PostgreSQL does not run as root, and there is no user postgres or nobody.")
