"""Many processes write, change their minds and are killed, others follow: the law holds all the time.

STRESS_SECONDS=600 python -m pytest tests/data/test_crowd.py --database postgres    a long run
STRESS_SEED=…                                                                       the deeds of a failed one
"""

import json
import os
import random
import sys

import pytest
from django.db import connection

from notifications import streams
from notifications.models import Job, Notification
from tests.data.conftest import scalar
from tests.data.shapes import assert_orderly
from tests.support.processes import Process
from tests.support.site import ROOT

pytestmark = pytest.mark.database_law

SECONDS = float(os.environ.get("STRESS_SECONDS", "7"))
WRITERS, READERS, USERS = 4, 2, 4


@pytest.mark.timeout(SECONDS + 180)
def test_a_crowd_of_writers_and_readers(users, given, tmp_path):
    """No reader sees n+1 before n, no number is given twice or left out, nothing committed is lost or left without a
    number, nothing rolled back is there, and no deadlock is met."""
    people = [str(user) for user in users(USERS)]
    seed = os.environ.get("STRESS_SEED") or str(random.randrange(10**6))
    stop, journal = tmp_path / "stop", tmp_path / "journal"
    deadlocks = count_deadlocks()
    readers = [start(tmp_path / f"reader{nth}.log", "reader", stop, *people) for nth in range(READERS)]
    writers = [
        start(tmp_path / f"writer{nth}.log", "writer", f"{seed}-{nth}", SECONDS, journal, *people)
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

    assert_orderly(people)
    for user in people:
        numbers = given(user)
        assert numbers == list(range(1, len(numbers) + 1)), f"STRESS_SEED={seed}"
    there = {str(pk) for model in (Notification, Job) for pk in model.objects.values_list("pk", flat=True)}
    known = journal.read_text().split()
    assert {id[1:] for id in known if id[0] == "+"} <= there
    assert there.isdisjoint(id[1:] for id in known if id[0] == "-")
    final = {user: numbers_by_id(user) for user in people}
    for process in readers:
        assert json.loads(process.output.splitlines()[-1]) == final, f"STRESS_SEED={seed}"
    assert count_deadlocks() == deadlocks
    assert sum(len(given(user)) for user in people) > 100, "Too little has happened to prove anything."


def start(log, name, *arguments):
    command = [sys.executable, "-W", "error", "-m", f"tests.data.{name}", *arguments]
    env = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return Process(command, log=log, env=env, cwd=ROOT)


def database_url():
    """The database of this test, as DATABASE_URL says it."""
    told = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{told['NAME']}"
    return f"postgres://{told['USER']}@{told['HOST']}:{told['PORT']}/{told['NAME']}"


def numbers_by_id(user):
    """What a client holds that has followed from the beginning."""
    rows = [Notification.objects.filter(user=user), Job.objects.filter(user=user).exclude(seq=0)]
    return {str(pk): seq for some in rows for pk, seq in some.values_list("pk", "seq")}


def count_deadlocks():
    if connection.vendor == "sqlite":
        return 0
    return scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
