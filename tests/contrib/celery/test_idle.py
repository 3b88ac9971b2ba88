"""What an idle Celery worker asks of the database."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.processes import child_pids
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

pytestmark = [pytest.mark.with_all_apps("the processes are those of the site"), pytest.mark.nightly]

SECONDS = 60
#: Statements in these seconds by duties of which one process does each from time to time.
MAX_OTHERS = 70


def test_idle_worker(postgres, postgres_site, redis):
    """After it has run jobs its children make no query and have no connection, and its main process one a second."""
    site, name = postgres_site, postgres_site.database_url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE \"{name}\" SET log_statement = 'all'")
    site.use_celery(redis.url)
    worker = site.start_celery("--pool", "prefork")
    children = child_pids(worker.pid)
    site.python("from tests.jobs.tasks import noop_sync\nfor number in range(10): noop_sync.enqueue()")
    done = "SELECT count(*) FROM notifications_job WHERE state = 'succeeded'"
    wait_until(lambda: site.rows(done) == [(10,)], what="the jobs to end")
    assert any(is_connected(pid, postgres.port) for pid in children)

    def is_idle():
        return not any(is_connected(pid, postgres.port) for pid in children)

    wait_until(is_idle, what="the connections of the children to end", timeout=30)
    before = statements(postgres)
    time.sleep(SECONDS)
    assert is_idle()
    made = statements(postgres) - before
    # Its rounds have a connection of their own, and begin with what all duties have to do: "SELECT (…), (…)".
    rounds = {pid for pid, text in made if text.startswith("SELECT (")}
    assert len(rounds) == 1
    found = {text: count for (pid, text), count in made.items() if pid in rounds}
    assert sum(found.values()) <= SECONDS + MAX_OTHERS, found


def statements(postgres):
    """Return how often each connection has made each statement, by the process of the server and the text."""
    log = postgres.process.log.read_text()
    return Counter(re.findall(r"\[(\d+)\] LOG:  statement: (.*(?:\n\t.*)*)", log))


def is_connected(pid, port):
    """Return whether a process has a connection to a port of this machine."""
    sockets = {
        os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.exists(follow_symlinks=False)
    }
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return any(f"socket:[{row[9]}]" in sockets and int(row[2].partition(":")[2], 16) == port for row in rows)
