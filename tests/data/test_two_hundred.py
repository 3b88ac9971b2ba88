"""Two hundred transactions at once on the same five users: in any order, asleep in the middle, undone at the end."""

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
from tests.data.shapes import assert_orderly
from tests.data.test_crowd import count_deadlocks, numbers_by_id, start

pytestmark = pytest.mark.database_law

TRANSACTIONS, USERS = 200, 5


class Undone(Exception):
    pass


@pytest.mark.timeout(180)
def test_two_hundred_transactions_at_once(users, given, tmp_path):
    """All commit or undo what they wrote; readers never see n+1 before n; no hole, no deadlock, nothing left."""
    people = users(USERS)
    seed = os.environ.get("STRESS_SEED") or str(random.randrange(10**6))
    stop, deadlocks = tmp_path / "stop", count_deadlocks()
    readers = [start(tmp_path / f"reader{nth}.log", "reader", stop, *map(str, people)) for nth in range(2)]
    together = threading.Barrier(TRANSACTIONS)
    try:
        with ThreadPoolExecutor(TRANSACTIONS) as threads:
            ended = list(
                threads.map(lambda nth: transact(f"{seed} {nth}", together, people), range(TRANSACTIONS))
            )
        streams.number_pending()
        stop.touch()
        for process in readers:
            process.popen.wait(60)
            assert process.popen.returncode == 0, f"STRESS_SEED={seed}\n{process.output}"
    finally:
        for process in readers:
            process.stop()

    assert_orderly(people)
    for user in people:
        numbers = given(user)
        assert numbers == list(range(1, len(numbers) + 1)), f"STRESS_SEED={seed}"
    committed = {id for kept, _ in ended for id in kept}
    undone = {id for _, lost in ended for id in lost}
    assert len(committed) > TRANSACTIONS and len(undone) > TRANSACTIONS
    assert set(Notification.objects.values_list("pk", flat=True)) == committed, f"STRESS_SEED={seed}"
    final = {str(user): numbers_by_id(user) for user in people}
    for process in readers:
        assert json.loads(process.output.splitlines()[-1]) == final, f"STRESS_SEED={seed}"
    assert count_deadlocks() == deadlocks


def transact(seed, together, people):
    """One transaction: (ids that stayed, ids that were undone)."""
    chance = random.Random(seed)
    kept, lost = [], []
    try:
        connections["default"].ensure_connection()
        together.wait(60)
        with transaction.atomic():
            for user in chance.sample(people, chance.randint(1, USERS)):
                try:
                    with transaction.atomic():
                        made = notify(user, "note", key=chance.choice(["", "", "k"]))
                        time.sleep(chance.random() * 0.01)
                        if chance.random() < 0.2:
                            raise Undone
                    kept += made
                except Undone:
                    lost += made
            if chance.random() < 0.4:
                raise Undone
    except Undone:
        kept, lost = [], kept + lost
    finally:
        connections.close_all()
    return kept, lost
