"""How many jobs run at once: of one concurrency key, and of one queue, over all workers."""

import uuid
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from django.core.checks import run_checks
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.jobs.claiming import candidates, concurrency
from notifications.jobs.policies import DEFAULT_POLICY, Policy
from notifications.jobs.transitions import outcomes, recording
from notifications.models import Job
from notifications.signals import rung
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.jobs.transitions.test_states import in_threads
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit_queues(settings):
    """limit_queues(reports=5): so many jobs of a queue at once."""

    def limit(**concurrency):
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": concurrency}}}

    return limit


@pytest.fixture
def rings():
    """Whether each ring from now on is one of the queue."""
    heard = []

    def hear(queue, **kwargs):
        heard.append(queue)

    rung.connect(hear)
    yield heard
    rung.disconnect(hear)


def claim(limit=100, **options):
    return claim_rows(uuid.uuid4(), limit, **options)


def finish(*jobs):
    """Record what jobs returned, as the worker does: what another claimer had locked for a moment, once more."""
    group = [outcomes.succeeded(job, DEFAULT_POLICY, None) for job in jobs]
    while group:
        stored, void = recording.record_outcomes(group)
        assert not void
        group = [outcome for outcome in group if outcome not in stored]


def keys(jobs):
    return Counter(job.concurrency_key for job in jobs)


class TestKeys:
    def test_one_at_a_time(self, demo):
        """Of the jobs with a key the oldest runs; the next one when it is done."""
        first, second = (tasks.one_an_owner.using(owner=demo).enqueue() for _ in range(2))
        (job,) = claim()
        assert (str(job.id), job.concurrency_key) == (first.id, f"report:{demo.pk}")
        assert claim() == []
        finish(job)
        assert [str(job.id) for job in claim()] == [second.id]

    def test_others_are_not_held_up(self, demo, django_user_model):
        """Behind any number of jobs that must wait, those that may run are found."""
        other = django_user_model.objects.create_user("other")
        for _ in range(30):
            tasks.one_an_owner.using(owner=demo, priority=5).enqueue()
        tasks.one_an_owner.using(owner=other).enqueue()
        plain = tasks.noop.enqueue()
        for taken in (3, 0):
            jobs = claim(5)
            assert len(jobs) == taken
        assert keys(Job.objects.filter(state="running")) == {
            f"report:{demo.pk}": 1,
            f"report:{other.pk}": 1,
            "": 1,
        }
        assert Job.objects.get(id=plain.id).state == "running"

    def test_many_full_keys_are_left_out_at_once(self):
        """More of them than a claim looks again: they are known from what runs."""
        names = [f"key {number}" for number in range(3 * concurrency.MAX_PASSES)]
        for name in names:
            tasks.noop.using(concurrency_key=name, priority=9).enqueue()
        assert len(claim()) == len(names)
        for name in names:
            tasks.noop.using(concurrency_key=name, priority=9).enqueue()
        plain = tasks.noop.enqueue()
        assert [str(job.id) for job in claim(1)] == [plain.id]

    @pytest.mark.django_db(transaction=True)
    def test_a_claim_that_ends_early_rings(self, rings, monkeypatch):
        """It leaves the lock to others; whoever is rung goes on where it ended."""
        monkeypatch.setattr(concurrency, "MAX_PASSES", 1)
        with transaction.atomic():
            for name in range(5):
                for _ in range(100):
                    tasks.noop.using(concurrency_key=f"key {name}").enqueue()
        rings.clear()
        assert len(claim(100)) == 1
        assert True in rings
        monkeypatch.undo()
        assert len(claim(100)) == 4

    def test_one_of_each_key_behind_many_of_others(self):
        """The first of each key that has room, by priority, and what has none, whatever waits before them."""
        for name in range(3 * concurrency.MAX_PASSES):
            for priority in (0, 1):
                for _ in range(2):
                    tasks.noop.using(concurrency_key=f"key {name:02}", priority=priority).enqueue()
        plain = tasks.noop.enqueue()
        jobs = claim(20)
        assert [(job.concurrency_key, job.priority) for job in jobs] == [
            (f"key {name:02}", 1) for name in range(20)
        ]
        rest = claim(20)
        assert [job.concurrency_key for job in rest] == [*(f"key {name:02}" for name in range(20, 30)), ""]
        assert str(rest[-1].id) == plain.id

    def test_what_is_due_behind_many_of_a_key(self):
        """Of other keys and without one, which were for later too."""
        ago = timezone.now() - timedelta(hours=1)
        for later in (None, ago):
            for _ in range(20):
                tasks.noop.using(concurrency_key="full", priority=9, run_after=later).enqueue()
        assert len(claim(5)) == 1
        asked = [
            tasks.noop.using(concurrency_key=key, priority=priority, run_after=later).enqueue()
            for key, priority, later in (("a", 0, ago), ("", 2, ago), ("b", 3, None), ("", 1, None))
        ]
        tasks.noop.using(concurrency_key="c", run_after=timezone.now() + timedelta(hours=1)).enqueue()
        assert [str(job.id) for job in claim(5)] == [asked[number].id for number in (2, 1, 3, 0)]

    def test_many_at_once_of_each_of_two_keys(self, monkeypatch):
        """As many of the second one too, although those of the first one come before."""
        monkeypatch.setattr(
            concurrency, "policy_at", lambda path: Policy(concurrency_key="x", concurrency=30)
        )
        for name, count in (("a", 120), ("b", 40)):
            for _ in range(count):
                tasks.noop.using(concurrency_key=name).enqueue()
        assert keys(claim(100)) == {"a": 30, "b": 30}

    def test_a_low_priority_of_a_key_hides_no_high_one(self):
        """Behind a full key too, where both are due and the low one is it for longer."""
        now = timezone.now()
        for _ in range(2):
            tasks.noop.using(concurrency_key="full", priority=9).enqueue()
        assert len(claim(1)) == 1
        for priority in (1, 2, 0):
            later = now - timedelta(seconds=9 - priority)
            tasks.noop.using(concurrency_key="x", priority=priority, run_after=later).enqueue()
        plain = tasks.noop.using(priority=1).enqueue()
        assert [job.priority for job in claim(1)] == [2]
        assert [str(job.id) for job in claim(1)] == [plain.id]

    def test_several_at_once_behind_a_full_key(self):
        """As many of a key as its policy says, whatever that of the full one says."""
        for _ in range(10):
            tasks.noop.using(concurrency_key="one", priority=9).enqueue()
            tasks.two_a_site.using(priority=5).enqueue("a")
            tasks.noop.enqueue()
        assert len(claim(1)) == 1
        assert keys(claim(5)) == {"site:a": 2, "": 3}

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("again", [False, True])
    def test_a_place_that_gets_free_rings(self, demo, rings, again):
        """At the end of a job, and of an attempt; that of a job without a key says nothing to the queue."""
        policy = Policy(retry_on=ValueError)
        for key in ("x", ""):
            tasks.noop.using(owner=demo, concurrency_key=key).enqueue()
            (job,) = claim()
            end = outcomes.failed(job, policy, ValueError()) if again else outcomes.succeeded(job, policy, 1)
            rings.clear()
            recording.record_outcomes([end])
            assert (True in rings) is bool(key)

    def test_as_many_as_the_policy_says(self):
        for _ in range(5):
            tasks.two_a_site.enqueue("a")
            tasks.two_a_site.enqueue(site="b")
        jobs = claim()
        assert keys(jobs) == {"site:a": 2, "site:b": 2}
        assert claim() == []
        finish(*[job for job in jobs if job.concurrency_key == "site:a"])
        assert keys(claim()) == {"site:a": 2}

    def test_using_has_the_last_word(self, demo):
        for key in ("mine", ""):
            tasks.one_an_owner.using(owner=demo, concurrency_key=key).enqueue()
            tasks.one_an_owner.using(owner=demo, concurrency_key=key).enqueue()
        assert keys(claim()) == {"mine": 1, "": 2}

    def test_a_job_for_later_has_its_place_when_it_is_due(self, demo):
        later = timezone.now() + timedelta(hours=1)
        tasks.one_an_owner.using(owner=demo, run_after=later).enqueue()
        tasks.one_an_owner.using(owner=demo).enqueue()
        assert len(claim()) == 1
        Job.objects.filter(state="queued").update(run_after=timezone.now())
        assert claim() == []

    def test_by_priority(self, demo):
        tasks.one_an_owner.using(owner=demo).enqueue()
        high = tasks.one_an_owner.using(owner=demo, priority=7).enqueue()
        assert [str(job.id) for job in claim()] == [high.id]

    def test_a_job_of_nobody(self):
        assert Job.objects.get(id=tasks.one_an_owner.enqueue().id).concurrency_key == "report:"

    @pytest.mark.parametrize(
        ("key", "error", "words"),
        [("x" * 201, ValueError, "concurrency_key has 201 characters"), (7, TypeError, "must be a string")],
    )
    def test_keys_that_cannot_be_stored(self, key, error, words):
        with pytest.raises(error, match=words):
            tasks.noop.using(concurrency_key=key).enqueue()


class TestQueues:
    def test_so_many_of_a_queue(self, limit_queues):
        """Others are not held up."""
        limit_queues(reports=2)
        for _ in range(5):
            tasks.noop.using(queue_name="reports", priority=5).enqueue()
            tasks.noop.enqueue()
        jobs = claim()
        assert Counter(job.queue_name for job in jobs) == {"reports": 2, "default": 5}
        assert candidates.names() == {}
        assert claim() == []
        finish(next(job for job in jobs if job.queue_name == "reports"))
        assert [job.queue_name for job in claim()] == ["reports"]

    def test_both(self, limit_queues, demo):
        """A queue's limit and a key's hold together."""
        limit_queues(reports=3)
        for number in range(4):
            for _ in range(2):
                tasks.noop.using(queue_name="reports", concurrency_key=f"key {number}").enqueue()
        jobs = claim()
        assert len(jobs) == 3 and len(keys(jobs)) == 3

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"limits": {"default": 0}}, "limits 'default' to 0 jobs at once"),
            ({"limits": {"default": "5"}}, "limits 'default' to '5' jobs at once"),
            ({"limits": 5}, None),
            ({"limits": {"elsewhere": 5}}, "limits the queue 'elsewhere', which is not among its QUEUES"),
        ],
    )
    def test_the_check(self, settings, options, words):
        settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"], "OPTIONS": options}}
        found = [message for message in run_checks() if message.id == "notifications.E006"]
        assert len(found) == 1 and (words is None or words in found[0].msg)
        assert found[0].hint

    def test_the_check_of_good_ones(self, limit_queues):
        limit_queues(reports=5)
        assert not [message for message in run_checks() if message.id == "notifications.E006"]


def test_plain_jobs_cost_no_query_more(limit_queues):
    """Neither with a limit on another queue; a key costs one look at what runs, and one look for others.

    PostgreSQL claims plain jobs by one statement, and others step by step after it has seen them.
    """

    def queries():
        with CaptureQueriesContext(connection) as captured:
            claim()
        return len(captured)

    tasks.noop.enqueue()
    plain = queries()
    limit_queues(reports=5)
    tasks.noop.enqueue()
    assert queries() == plain
    tasks.noop.using(concurrency_key="x").enqueue()
    steps = {"sqlite": plain + 1 + 1, "postgresql": plain + 1 + 6 + 1 + 1}
    assert queries() == steps[connection.vendor]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.mark.parametrize("round", range(4))
    def test_claimers_at_once_never_pass_a_limit(self, limit_queues, round):
        """Four workers, keys of one and two at a time and a queue of three: counted after each claim."""
        limit_queues(reports=3)
        with transaction.atomic():
            for number in range(60):
                tasks.two_a_site.enqueue(number % 3)
                tasks.noop.using(queue_name="reports").enqueue()
                tasks.noop.using(concurrency_key=f"one {number % 4}").enqueue()
        broken = []

        def work(worker):
            idle = 0
            while idle < 3:
                jobs = claim_rows(worker, 5)
                running = Job.objects.filter(state="running").values_list("concurrency_key", "queue_name")
                counted = Counter(key or queue for key, queue in running)
                broken.extend(
                    (name, count)
                    for name, count in counted.items()
                    if count > (3 if name == "reports" else 2 if name.startswith("site") else 1)
                )
                finish(*jobs)
                idle = 0 if jobs else idle + 1

        in_threads(*(partial(work, uuid.uuid4()) for _ in range(4)))
        assert not broken
        work(uuid.uuid4())  # what all of them had left to one another
        assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}

    def test_workers(self, start_worker):
        """Two of them; the end of a job is heard where the next one waits."""
        for _ in range(2):
            start_worker(concurrency=20)
        tasks.running_by_site.clear()
        with transaction.atomic():
            results = [tasks.two_a_site.enqueue(number % 3) for number in range(30)]
        assert {job.state for job in until_done(*results)} == {"succeeded"}
        assert {most for _, most in tasks.seen} <= {1, 2} and len(tasks.seen) == 30

    def test_one_that_is_tried_again_leaves_its_place(self, worker, gate):
        """The pause is nobody's turn."""
        waiting = tasks.busy.using(concurrency_key="x").enqueue(3, 3600)
        wait_until(lambda: Job.objects.filter(id=waiting.id, attempt=1, state="queued"), what="the pause")
        until_done(tasks.noop.using(concurrency_key="x").enqueue())
