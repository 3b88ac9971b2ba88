"""Behind PgBouncer: what the page on several machines says of its modes."""

import json

import psycopg
import pytest

from tests.faults.support.engine import Engine
from tests.support.pgbouncer import PgBouncer

pytestmark = pytest.mark.nightly

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
