"""A PgBouncer in front of a PostgreSQL cluster, on a free port, in a temporary folder."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.network import free_port, is_listening
from tests.support.postgres import unprivileged
from tests.support.processes import Process

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={cluster}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
max_client_conn = 200
"""


class PgBouncer:
    """A running pooler. url(url) leads one of the cluster through it.

    Without the program the test is skipped, also where services are required: no other test needs it.
    """

    def __init__(self, cluster, mode):
        self.cluster = cluster
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if not program:
            pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer).")
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="asyncsite-pgbouncer-"))
        users, configuration = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text('"tests" ""\n')
        configuration.write_text(
            CONFIGURATION.format(cluster=cluster.port, port=self.port, users=users, mode=mode)
        )
        privileges = unprivileged()
        if privileges:
            for path in (self.folder, users, configuration):
                shutil.chown(path, privileges["user"], privileges["group"])
        log = self.folder.with_suffix(".log")
        self.process = Process([program, configuration], log=log, cwd="/", **privileges)
        self.process.wait_until(lambda: is_listening(self.port), what="PgBouncer to accept connections")

    def url(self, url):
        return url.replace(f":{self.cluster.port}/", f":{self.port}/")

    def stop(self):
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.process.log.unlink(missing_ok=True)
