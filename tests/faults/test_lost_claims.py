"""PostgreSQL crashes just after a claim, which may be lost until it is made durable, but not that of a last attempt."""

import pytest

from tests.support.postgres import Postgres
from tests.support.site import Sites

# The test starts its own cluster, whatever the database of the test run is.
pytestmark = pytest.mark.any_database

CLAIM = """
import os, signal, uuid
from notifications.jobs.transitions.claims import make_claims_durable
from notifications.models import Job
from tests.jobs.tasks import noop
from tests.support.claims import claim_rows

job = noop.enqueue()
Job.objects.filter(id=job.id).update(max_attempts={max_attempts})
assert len(claim_rows(uuid.uuid4(), 1)) == 1
if {is_made_durable}:
    make_claims_durable()
os.kill({postgres}, signal.SIGQUIT)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    cluster = Postgres()
    # Else PostgreSQL writes what such commits have left several times a second.
    cluster.command += ["-c", "wal_writer_delay=10s"]
    cluster.crash()
    cluster.start()
    site = Sites(tmp_path_factory.mktemp("claims"), cluster).make()
    site.cluster = cluster
    yield site
    site.close()
    cluster.stop()


@pytest.mark.nightly_names("*[*-running]")
@pytest.mark.parametrize(
    ("max_attempts", "is_made_durable", "state"),
    [(2, False, "queued"), (2, True, "running"), (1, False, "running")],
)
def test_a_crash_after_a_claim(site, max_attempts, is_made_durable, state):
    site.write([("DELETE FROM notifications_job", ())])
    postgres = site.cluster.process.popen
    site.python(
        CLAIM.format(max_attempts=max_attempts, is_made_durable=is_made_durable, postgres=postgres.pid)
    )
    postgres.wait(60)
    site.cluster.start()
    assert site.rows("SELECT state FROM notifications_job") == [(state,)]
