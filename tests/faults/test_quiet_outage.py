"""The log of a server while PostgreSQL is away: a line of each loop a minute, which says how often it has tried."""

import re
import time
from collections import Counter

import pytest

from tests.support.faults.engine import TIMEOUT_SECONDS
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

# The test starts its own cluster, whatever the database of the test run is.
pytestmark = pytest.mark.any_database

#: The constant phrase of a line, after its level and logger; of threads with their names.
PHRASE = re.compile(r" (?:INFO|WARNING|ERROR) \S+: (A thread failed, and goes on: [^:]+|[^:(]+)")
#: Seconds, in which each loop tries several times.
DOWN_SECONDS = 8


@pytest.fixture
def cluster():
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.mark.timeout(180)
def test_a_line_of_each_loop(tmp_path, cluster):
    site = Sites(tmp_path, cluster).make()
    try:
        site.notifications |= {"EMBEDDED_WORKER": True}
        site.start_web()
        leases = "SELECT count(*) FROM notifications_worker WHERE lease_until > clock_timestamp()"
        wait_until(lambda: site.rows(leases)[0][0], timeout=TIMEOUT_SECONDS, what="the embedded worker")
        before = len(site.web.output)
        cluster.crash()
        time.sleep(DOWN_SECONDS)
        lines = site.web.output[before:].splitlines()
        phrases = Counter(found[1] for line in lines if (found := PHRASE.search(line)))
        assert "The worker waits for the database" in phrases
        assert set(phrases.values()) == {1}, phrases
        assert not [line for line in lines if "Traceback" in line]
    finally:
        site.close()
