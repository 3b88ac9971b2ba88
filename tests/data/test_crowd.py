"""A stress test: processes write, roll back and are killed while others read, and streams stay consistent.

STRESS_SECONDS=600 python -m pytest tests/data/test_crowd.py --database postgres    a long run
STRESS_SEED=…                                                                       repeat the actions of a failed run
"""

import json
import os
import random
import sys

import pytest
from django.db import connection

from notifications import streams
from notifications.models import Job, Notification
from notifications.streams import rebuilding
from tests.data.conftest import scalar
from tests.data.shapes import assert_consistent
from tests.support.processes import Process
from tests.support.site import ROOT

pytestmark = [pytest.mark.database_law, pytest.mark.nightly, pytest.mark.nightly_on_postgres]

SECONDS = float(os.environ.get("STRESS_SECONDS", "7"))
WRITERS, READERS, USERS = 4, 2, 4


@pytest.mark.timeout(SECONDS + 180)
def test_killed_writers_and_concurrent_readers(users, assigned_seqs, tmp_path):
    """Readers see seqs in order without gaps; committed rows are kept and numbered, rolled-back ones are not there.

    No seq is assigned twice, and no deadlock occurs.
    """
    user_keys = [str(user) for user in users(USERS)]
    seed = os.environ.get("STRESS_SEED") or str(random.randrange(10**6))
    stop, journal = tmp_path / "stop", tmp_path / "journal"
    deadlocks = count_deadlocks()
    readers = [start(tmp_path / f"reader{nth}.log", "reader", stop, *user_keys) for nth in range(READERS)]
    writers = [
        start(tmp_path / f"writer{nth}.log", "writer", f"{seed}-{nth}", SECONDS, journal, *user_keys)
        for nth in range(WRITERS)
    ]
    try:
        for process in writers:
            process.popen.wait(SECONDS + 60)
            assert process.popen.returncode == 0, f"STRESS_SEED={seed}\n{process.output}"
        streams.number_pending()
        stop.touch()
        for process in readers:
            process.popen.wait(60)
            assert process.popen.returncode == 0, f"STRESS_SEED={seed}\n{process.output}"
    finally:
        for process in (*writers, *readers):
            process.stop()

    assert_consistent(user_keys)
    assert rebuilding.find_wrong_counts() == {}, f"STRESS_SEED={seed}"
    for user in user_keys:
        seqs = assigned_seqs(user)
        assert seqs == list(range(1, len(seqs) + 1)), f"STRESS_SEED={seed}"
    stored = {str(pk) for model in (Notification, Job) for pk in model.objects.values_list("pk", flat=True)}
    entries = journal.read_text().split()
    assert {entry[1:] for entry in entries if entry[0] == "+"} <= stored
    assert stored.isdisjoint(entry[1:] for entry in entries if entry[0] == "-")
    final = {user: seqs_by_id(user) for user in user_keys}
    for process in readers:
        assert json.loads(process.output.splitlines()[-1]) == final, f"STRESS_SEED={seed}"
    assert count_deadlocks() == deadlocks
    assert sum(len(assigned_seqs(user)) for user in user_keys) > 100, (
        "Too few seqs were assigned for the test to be meaningful."
    )


def start(log, name, *arguments):
    command = [sys.executable, "-W", "error", "-m", f"tests.data.{name}", *arguments]
    env = {**os.environ, "DATABASE_URL": database_url()}  # with the settings of this run
    return Process(command, log=log, env=env, cwd=ROOT)


def database_url():
    """Return the DATABASE_URL of the test database."""
    parameters = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{parameters['NAME']}"
    return f"postgres://{parameters['USER']}@{parameters['HOST']}:{parameters['PORT']}/{parameters['NAME']}"


def seqs_by_id(user):
    """Return the rows of a client that has read the stream from its beginning, as {id: seq}."""
    querysets = [Notification.objects.filter(user=user), Job.objects.filter(user=user).exclude(seq=0)]
    return {str(pk): seq for queryset in querysets for pk, seq in queryset.values_list("pk", "seq")}


def count_deadlocks():
    if connection.vendor == "sqlite":
        return 0
    return scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
