"""A stress test: 200 concurrent transactions for five users, with pauses, and some of them rolled back."""

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from notifications import streams
from notifications.api import notify
from notifications.models import Notification
from tests.data.shapes import assert_consistent
from tests.data.test_crowd import count_deadlocks, seqs_by_id, start

pytestmark = [pytest.mark.database_law, pytest.mark.nightly, pytest.mark.nightly_on_postgres]

TRANSACTIONS, USERS = 200, 5


class RollBack(Exception):
    """Raised to roll a transaction or savepoint back."""


@pytest.mark.timeout(180)
def test_two_hundred_concurrent_transactions(users, assigned_seqs, tmp_path):
    """Exactly the committed rows exist, readers see seqs in order without gaps, and no deadlock occurs."""
    user_keys = users(USERS)
    seed = os.environ.get("STRESS_SEED") or str(random.randrange(10**6))
    stop, deadlocks = tmp_path / "stop", count_deadlocks()
    readers = [start(tmp_path / f"reader{nth}.log", "reader", stop, *map(str, user_keys)) for nth in range(2)]
    barrier = threading.Barrier(TRANSACTIONS)
    try:
        with ThreadPoolExecutor(TRANSACTIONS) as threads:
            results = list(
                threads.map(lambda nth: transact(f"{seed} {nth}", barrier, user_keys), range(TRANSACTIONS))
            )
        streams.number_pending()
        stop.touch()
        for process in readers:
            process.popen.wait(60)
            assert process.popen.returncode == 0, f"STRESS_SEED={seed}\n{process.output}"
    finally:
        for process in readers:
            process.stop()

    assert_consistent(user_keys)
    for user in user_keys:
        seqs = assigned_seqs(user)
        assert seqs == list(range(1, len(seqs) + 1)), f"STRESS_SEED={seed}"
    committed = {id for ids, _ in results for id in ids}
    rolled_back = {id for _, ids in results for id in ids}
    assert len(committed) > TRANSACTIONS and len(rolled_back) > TRANSACTIONS
    assert set(Notification.objects.values_list("pk", flat=True)) == committed, f"STRESS_SEED={seed}"
    final = {str(user): seqs_by_id(user) for user in user_keys}
    for process in readers:
        assert json.loads(process.output.splitlines()[-1]) == final, f"STRESS_SEED={seed}"
    assert count_deadlocks() == deadlocks


def transact(seed, barrier, user_keys):
    """Run one transaction with random savepoints. Returns (committed ids, rolled-back ids)."""
    chance = random.Random(seed)
    committed, rolled_back = [], []
    try:
        connections["default"].ensure_connection()
        if connections["default"].vendor == "sqlite":
            wait_long_for_the_lock()
        barrier.wait(60)
        with transaction.atomic():
            for user in chance.sample(user_keys, chance.randint(1, USERS)):
                try:
                    with transaction.atomic():
                        ids = notify(user, "note", key=chance.choice(["", "", "k"]))
                        time.sleep(chance.random() * 0.01)
                        if chance.random() < 0.2:
                            raise RollBack
                    committed += ids
                except RollBack:
                    rolled_back += ids
            if chance.random() < 0.4:
                raise RollBack
    except RollBack:
        committed, rolled_back = [], committed + rolled_back
    finally:
        connections.close_all()
    return committed, rolled_back


def wait_long_for_the_lock():
    """Have this thread wait for SQLite's lock until the others are done, which may take longer than 20 s in CI.

    Threads poll for it, so that the last of 200 gets it when all others have had it.
    """
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 120000")
