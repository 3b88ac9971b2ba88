"""Fair shares: a simulation keeps the law, and the database claims what the simulation does.

MODEL_EXAMPLES=500 python -m pytest tests/model    a long run
"""

import os
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import combinations

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.api import batch
from notifications.ids import uuid7
from notifications.jobs import turns
from notifications.models import Job, QueueClock
from tests.jobs import tasks
from tests.model.fair_queue import FairQueue, simulate
from tests.support.claims import claim_rows

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))


def enqueue(share, count=1, **values):
    return partial(FairQueue.enqueue, share=share, count=count, **values)


def flood(moment=0.0, share="flood", count=400, **values):
    return (moment, enqueue(share, count, **values))


@pytest.mark.parametrize("by_age", [True, False], ids=["by age", "fair"])
class TestSimulation:
    """Four slots, jobs of 0.1 s: 400 take 10 s."""

    def test_one_job_beside_a_flood(self, by_age):
        waits, _ = simulate([flood(), (5.0, enqueue("person"))], slots=4, until=60, by_age=by_age)
        assert len(waits["flood"]) == 400, "a slot was left free"
        assert (max(waits["person"]) <= 0.2) is not by_age

    def test_twenty_people_beside_a_flood(self, by_age):
        people = [(1 + second + 0.05 * n, enqueue(f"p{n}")) for n in range(20) for second in range(20)]
        waits, _ = simulate([flood(), *people], slots=4, until=60, by_age=by_age)
        worst = max(max(waits[f"p{n}"]) for n in range(20))
        assert (worst <= 0.5) is not by_age

    def test_a_flood_starts_beside_newcomers_without_end(self, by_age):
        newcomers = [(n / 50, enqueue(f"p{n}")) for n in range(1_500)]  # 40 a second can run
        waits, _ = simulate([flood(), *newcomers], slots=4, until=30, by_age=by_age)
        assert len(waits["flood"]) >= 10

    def test_an_old_turn_behind_a_closed_key(self, by_age):
        """A share that waits for its own key holds back the clock of nobody: later floods share evenly."""
        script = [
            flood(0, "keyed", 50, key="k", seconds=2.0),
            flood(0, "first", 500),
            flood(8, "second", 300),
        ]
        _, starts = simulate(script, slots=4, until=12, by_age=by_age)
        later = Counter(share for moment, share in starts if moment > 8.1)
        assert (abs(later["first"] - later["second"]) <= 2) is not by_age

    def test_a_long_transaction(self, by_age):
        """What was given turns long ago catches up, and others do not wait for it."""
        script = [
            flood(),
            flood(5, "late", 100, clock=0),
            *((6.0 + n / 5, enqueue("person")) for n in range(10)),
        ]
        waits, _ = simulate(script, slots=4, until=60, by_age=by_age)
        assert (max(waits["person"]) < 3) is not by_age

    def test_a_queue_beside_another(self, by_age):
        """One claim over two queues: neither waits for the backlog of the other, whatever their turns are."""
        script = [flood(), *((n + 0.5, enqueue("person", queue="other")) for n in range(20))]
        waits, _ = simulate(script, slots=1, until=60, by_age=by_age)
        assert max(waits["person"]) <= 2


shares = st.sampled_from("abcd")


@settings(max_examples=EXAMPLES * 20, deadline=None)
@given(st.lists(st.tuples(shares, st.integers(1, 30), st.integers(0, 8)), min_size=1, max_size=30))
def test_shares_that_wait_start_alike(steps):
    """While two shares have jobs queued, neither starts more than two jobs more than the other."""
    queue, ahead = FairQueue(), {}
    for share, count, claims in steps:
        queue.enqueue(share, count)
        for _ in range(claims):
            waiting = sorted({job.share for job in queue.jobs})
            # By how many starts the first of two is ahead, since both have waited.
            ahead = {pair: ahead.get(pair, 0) for pair in combinations(waiting, 2)}
            for job in queue.claim(1):
                for first, second in ahead:
                    ahead[first, second] += (job.share == first) - (job.share == second)
            assert all(abs(starts) <= 2 for starts in ahead.values())


class RolledBack(Exception):
    pass


@pytest.mark.database_law
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "each", "batch", "rolled back", "claim"]), shares, st.integers(1, 7)
        ),
        max_size=20,
    )
)
def test_claims_are_those_of_the_simulation(db, steps):
    """Jobs begin in the order of turns, enqueued alone or in a batch; a transaction that is rolled back takes none."""
    with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "CLOCK_INTERVAL_SECONDS", 0.0)
        patch.setattr(turns, "LAST_TURN_VALID_SECONDS", 0.0)
        owners = {name: get_user_model().objects.create(username=f"share {name}") for name in "abcd"}
        expected = FairQueue()
        for step, share, count in steps:
            task = tasks.noop.using(owner=owners[share])
            if step == "claim":
                claimed = [f"share {job.user.username[-1]}" for job in claim_rows(uuid7(), count)]
                assert claimed == [f"share {job.share}" for job in expected.claim(count)]
            elif step == "rolled back":
                with suppress(RolledBack), transaction.atomic():
                    task.enqueue()
                    raise RolledBack
            elif step == "batch":
                with batch():
                    for _ in range(count):
                        task.enqueue()
                expected.enqueue(share, count)
            else:
                for _ in range(count if step == "each" else 1):
                    task.enqueue()
                    expected.enqueue(share)
        Job.objects.all().delete()
        QueueClock.objects.all().delete()
        transaction.set_rollback(True)
