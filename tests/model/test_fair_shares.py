"""Fair shares: a simulation keeps the law, and the database claims what the simulation does.

MODEL_EXAMPLES=500 python -m pytest tests/model    a long run
"""

import copy
import heapq
import os
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import combinations, groupby

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.api import batch
from notifications.extension import Where
from notifications.models import Job, Queue, QueueClock, uuid7
from tests.jobs import tasks
from tests.model.fair_queue import FairQueue, QueuedJob
from tests.support import bounds
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import release, schedule_retries
from tests.support.threads import run_in_threads


def simulate(script, *, slots, until, **options):
    """Run ``(seconds, function of the queue)`` with so many slots. Return the waits and starts of each share."""
    queue = FairQueue(**options)
    events = [(moment, 0, number, act) for number, (moment, act) in enumerate(script)]
    heapq.heapify(events)
    running: dict[int, QueuedJob] = {}
    waits, starts = defaultdict(list), []
    while events and events[0][0] <= until:
        now, kind, number, act = heapq.heappop(events)
        if kind == 0:
            before = len(queue.jobs)
            act(queue)
            for job in queue.jobs[before:]:
                job.since = now
        else:
            del running[number]
        for job in queue.claim(slots - len(running), running.values()):
            waits[job.share].append(now - job.since)
            starts.append((now, job.share))
            running[job.number] = job
            heapq.heappush(events, (now + job.seconds, 1, job.number, None))
    return waits, starts


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


@pytest.mark.parametrize("places", [0, 12], ids=["turns", "turns and places"])
def test_slow_receivers(places):
    """Fifty users whose receivers answer after 9 s, and others: eight of a user run at once, on 200 places.

    Turns say who is next when a place is free. Without places that are left free none is: all answers come together.
    """

    def enqueue_slow(queue):
        for name in (f"slow {number}" for number in range(50)):
            queue.enqueue(name, 40, key=name, seconds=9.0)

    others = [
        (5 + number / 5, enqueue(f"p{number}", 2, key=f"p{number}", seconds=0.01)) for number in range(50)
    ]
    waits, starts = simulate([(0, enqueue_slow), *others], slots=200, until=120, per_key=8, places=places)
    worst = max(max(waits[f"p{number}"]) for number in range(50))
    assert (worst < 0.1) is (places > 0)
    # The slow ones wait for one another only.
    assert len([share for moment, share in starts if share.startswith("slow") and moment < 100]) >= 1_600


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


STEPS = ["one", "each", "batch", "rolled back", "later", "due", "claim", "requeue", "retry", "end", "pause"]


@pytest.mark.database_law
@pytest.mark.parametrize("names", [("default",), ("default", "other")], ids=["one queue", "two queues"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_claims_are_those_of_the_simulation(db, names, data):
    """Jobs begin by priority and in turn, enqueued alone, in a batch or for later, and when they are retried.

    A transaction that is rolled back takes no turn, and nothing of a paused queue begins.
    Of one queue they are the same jobs. Of two queues a claim takes the first ones of each, of both alike.
    """
    step = st.tuples(
        st.sampled_from(STEPS),
        shares,
        st.integers(1, 7),
        st.sampled_from(names),
        st.booleans(),
    )
    with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
        bounds.set_bounds(patch.setattr, known=0.0)
        owners = {name: get_user_model().objects.create(username=f"share {name}") for name in "abcd"}
        expected = FairQueue()
        running, rows, with_keys = [], [], data.draw(st.booleans())
        with_priorities = data.draw(st.booleans())
        for kind, share, count, queue, is_keyed in data.draw(st.lists(step, max_size=25)):
            key = f"key of {queue}" if is_keyed and with_keys else ""
            priority = count % 2 if with_priorities else 0
            task = tasks.noop.using(
                owner=owners[share], queue_name=queue, concurrency_key=key, priority=priority
            )
            place = {"queue": queue, "key": key, "priority": priority}
            if kind == "later":
                task.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
                expected.schedule(share, **place)
            elif kind == "due":
                Job.objects.filter(due_at__isnull=False).update(due_at=timezone.now())
                run_duty("queue jobs that are due", Where.SERVER)
                expected.queue_due()
            elif kind == "pause":
                row, is_new = Queue.objects.get_or_create(name=queue, defaults={"paused_at": timezone.now()})
                (expected.paused.add if is_new else expected.paused.discard)(queue)
                is_new or row.delete()
            elif kind == "retry":
                schedule_retries(rows, 60 * is_keyed)
                expected.retry(running, is_later=is_keyed)
                running, rows = [], []
            elif kind == "claim":
                claimed = claim_rows(uuid7(), count, queues=names if len(names) > 1 else ())
                taken = claim_of_each_queue(expected, claimed, count, running)
                running, rows = running + taken, rows + claimed
            elif kind == "requeue":
                for row in rows:
                    release(row)
                expected.requeue(running)
                running, rows = [], []
            elif kind == "end":
                Job.objects.filter(state="running").update(state="succeeded")
                running, rows = [], []
            elif kind == "rolled back":
                with suppress(RolledBack), transaction.atomic():
                    task.enqueue()
                    raise RolledBack
            elif kind == "batch":
                with batch():
                    for _ in range(count):
                        task.enqueue()
                expected.enqueue(share, count, **place)
            else:
                for _ in range(count if kind == "each" else 1):
                    task.enqueue()
                    expected.enqueue(share, **place)
        assert len(rows) == len({row.id for row in rows})
        Job.objects.all().delete()
        Queue.objects.all().delete()
        QueueClock.objects.all().delete()
        transaction.set_rollback(True)


def claim_of_each_queue(expected, claimed, count, running):
    """Claim in the simulation what was claimed, and compare both. Which of several queues is the first is random."""
    several = copy.deepcopy(expected)
    assert len(claimed) == len(several.claim(count, running))
    taken = []
    for queue, rows in groupby(sorted(claimed, key=lambda row: row.queue_name), lambda row: row.queue_name):
        of_queue = FairQueue()
        of_queue.jobs = [job for job in expected.jobs if job.queue == queue]
        assert queue not in expected.paused
        rows = sorted(rows, key=lambda row: (-row.priority, row.turn, row.id))
        first = of_queue.claim(len(rows), [*running, *taken])
        assert [(f"share {job.share}", job.key) for job in first] == [
            (row.user.username, row.concurrency_key) for row in rows
        ]
        taken += first
    counts = Counter(job.queue for job in taken)
    # A claim that has met a closed key looks a second time, for what is left.
    waiting = [job for job in expected.jobs if job.queue not in expected.paused]
    if not any(job.key or job.level for job in expected.jobs):
        for queue, left in (Counter(job.queue for job in waiting) - counts).items():
            assert not left or counts[queue] >= max(counts.values(), default=0) - 1
    expected.take(taken, is_full=len(taken) == count)
    return taken


@pytest.mark.database_law
def test_a_batch_of_a_thousand(db, set_bounds):
    """Beside single jobs that come while it is claimed, and what is queued again at a shutdown."""
    set_bounds(known=0.0)
    owners = {name: get_user_model().objects.create(username=f"share {name}") for name in "abcd"}
    expected = FairQueue()
    with batch():
        for _ in range(1_000):
            tasks.noop.using(owner=owners["a"]).enqueue()
    expected.enqueue("a", 1_000)
    for number in range(9):
        claimed = claim_rows(uuid7(), 100)
        taken = expected.claim(100)
        assert [row.user.username for row in claimed] == [f"share {job.share}" for job in taken]
        assert [row.turn for row in claimed] == [job.turn for job in taken]
        if number % 3 == 0:
            for row in claimed:
                release(row)
            expected.requeue(taken)
        for share in "bcd":
            tasks.noop.using(owner=owners[share]).enqueue()
            expected.enqueue(share)


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
def test_workers_that_claim_at_once(django_user_model):
    """Together they take the first jobs in turn, each of them once: no row stays locked that is not claimed."""
    expected, claimed = FairQueue(), []
    for name in "abcd":
        owner = django_user_model.objects.create(username=f"share {name}")
        with batch():
            for _ in range(60 if name == "a" else 20):
                tasks.noop.using(owner=owner).enqueue()
        expected.enqueue(name, 60 if name == "a" else 20)

    def claim():
        for _ in range(3):
            claimed.extend(claim_rows(uuid7(), 3))

    run_in_threads(*[claim] * 4)
    assert len({row.id for row in claimed}) == len(claimed) == 36
    names = Counter(row.user.username for row in claimed)
    assert names == Counter(f"share {job.share}" for job in expected.claim(36))
