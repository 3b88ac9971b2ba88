"""Behind PgBouncer: what the page on several machines says of its modes."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from tests.support.faults.engine import Engine
from tests.support.network import free_port, is_listening
from tests.support.postgres import unprivileged
from tests.support.processes import Process

pytestmark = pytest.mark.nightly

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


#: By pool mode, what `doctor` says of the doorbell.
MODES = {
    "session": ("ok", "The PostgreSQL NOTIFY delivers a message in "),
    "transaction": ("warning", "The PostgreSQL NOTIFY did not deliver a message: LISTEN receives nothing."),
}


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def pooler(postgres, mode):
    pooler = PgBouncer(postgres, mode)
    yield pooler
    pooler.stop()


@pytest.fixture
def engine(postgres_site, pooler):
    site = postgres_site
    site.database_url = site.environment["DATABASE_URL"] = pooler.url(site.database_url)
    engine = Engine(site, "pgbouncer")
    yield engine
    engine.close()


@pytest.mark.timeout(180)
def test_jobs_behind_a_pooler(engine, mode):
    """They run in both modes. In that of transactions no ring arrives, which `doctor` says."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(engine.site.database_url, options="-c statement_timeout=30000")
    worker = engine.start_worker()
    engine.wait_until_started(engine.enqueue("work", 50, args=[0.01]))
    engine.wait_until_done()
    engine.assert_invariants()
    assert {job.attempt for job in engine.jobs()} == {1}
    lines = engine.site.manage("notifications", "doctor", "--json").splitlines()
    findings = {finding["check"]: finding for finding in map(json.loads, lines)}
    state, message = MODES[mode]
    assert findings["doorbell"]["state"] == state
    assert findings["doorbell"]["message"].startswith(message)
    assert findings["round trip"]["state"] == "ok"
    assert worker.running
