"""Limits of concurrently running jobs, per concurrency key and per queue, over all workers."""

import uuid
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api import batch, policy, task
from notifications.jobs.claiming import candidates
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.outcomes import record, succeeded
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db


@task
@policy(concurrency_key="x", concurrency=30)
async def thirty_at_once():
    pass


@pytest.fixture
def limit_queues(settings):
    """limit_queues(reports=5) sets the limit of a queue."""

    def limit(**concurrency):
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": concurrency}}}

    return limit


def claim(limit=100, **options):
    return claim_rows(uuid.uuid4(), limit, **options)


def finish(*jobs):
    """Record that jobs succeeded, as the worker does: it tries again rows that another claimer has locked."""
    for job in jobs:
        while not record(succeeded(job)):
            pass


def keys(jobs):
    return Counter(job.concurrency_key for job in jobs)


class TestKeys:
    def test_one_at_a_time(self, user):
        """The oldest job with a key runs, and the next one when it is done."""
        first, second = (tasks.one_an_owner.using(owner=user).enqueue() for _ in range(2))
        (job,) = claim()
        assert (str(job.id), job.concurrency_key) == (first.id, f"report:{user.pk}")
        assert claim() == []
        finish(job)
        assert [str(job.id) for job in claim()] == [second.id]

    def test_jobs_behind_those_of_a_full_key_run(self, user, other_user):
        for _ in range(30):
            tasks.one_an_owner.using(owner=user, priority=5).enqueue()
        tasks.one_an_owner.using(owner=other_user).enqueue()
        plain = tasks.noop.enqueue()
        for count in (3, 0):
            jobs = claim(5)
            assert len(jobs) == count
        assert keys(Job.objects.filter(state="running")) == {
            f"report:{user.pk}": 1,
            f"report:{other_user.pk}": 1,
            "": 1,
        }
        assert Job.objects.get(id=plain.id).state == "running"

    def test_more_full_keys_than_passes(self):
        """One count of running jobs finds all full keys, so that one pass skips them."""
        names = [f"key {number}" for number in range(30)]
        for name in names:
            tasks.noop.using(concurrency_key=name, priority=9).enqueue()
        assert len(claim()) == len(names)
        for name in names:
            tasks.noop.using(concurrency_key=name, priority=9).enqueue()
        plain = tasks.noop.enqueue()
        assert [str(job.id) for job in claim(1)] == [plain.id]

    @pytest.mark.django_db(transaction=True)
    def test_a_claim_that_ends_early_rings(self, rings, monkeypatch):
        """After its last pass the claim commits, and its ring wakes workers for the remaining jobs."""
        monkeypatch.setattr(candidates, "MAX_PASSES", 1)
        with transaction.atomic():
            for name in range(5):
                for _ in range(100):
                    tasks.noop.using(concurrency_key=f"key {name}").enqueue()
        rings.clear()
        assert len(claim(100)) == 1
        assert True in rings
        monkeypatch.undo()
        assert len(claim(100)) == 4

    def test_one_job_of_each_of_many_keys(self):
        """A claim takes the first job of each key, by priority, and then the job without a key."""
        for name in range(30):
            for priority in (0, 1):
                for _ in range(2):
                    tasks.noop.using(concurrency_key=f"key {name:02}", priority=priority).enqueue()
        plain = tasks.noop.enqueue()
        jobs = claim(20)
        assert [(job.concurrency_key, job.priority) for job in jobs] == [
            (f"key {name:02}", 1) for name in range(20)
        ]
        others = claim(20)
        assert [job.concurrency_key for job in others] == [*(f"key {name:02}" for name in range(20, 30)), ""]
        assert str(others[-1].id) == plain.id

    def test_due_jobs_behind_those_of_a_full_key(self):
        """Jobs with other keys or none are claimed, with and without run_after, by priority."""
        ago = timezone.now() - timedelta(hours=1)
        for later in (None, ago):
            for _ in range(20):
                tasks.noop.using(concurrency_key="full", priority=9, run_after=later).enqueue()
        assert len(claim(5)) == 1
        results = [
            tasks.noop.using(concurrency_key=key, priority=priority, run_after=later).enqueue()
            for key, priority, later in (("a", 0, ago), ("", 2, ago), ("b", 3, None), ("", 1, None))
        ]
        tasks.noop.using(concurrency_key="c", run_after=timezone.now() + timedelta(hours=1)).enqueue()
        assert [str(job.id) for job in claim(5)] == [results[number].id for number in (2, 1, 3, 0)]

    def test_a_limit_of_many_for_two_keys(self):
        """The second key gets its whole limit although its jobs come after those of the first one."""
        for name, count in (("a", 120), ("b", 40)):
            for _ in range(count):
                thirty_at_once.using(concurrency_key=name).enqueue()
        assert keys(claim(100)) == {"a": 30, "b": 30}

    def test_priority_before_age_within_a_key(self):
        """This holds behind a full key too, where a job of lower priority has been due for longer."""
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

    def test_a_limit_of_two_behind_a_full_key(self):
        """A key has the limit of its own policy, not that of the full key."""
        for _ in range(10):
            tasks.noop.using(concurrency_key="one", priority=9).enqueue()
            tasks.two_a_site.using(priority=5).enqueue("a")
            tasks.noop.enqueue()
        assert len(claim(1)) == 1
        assert keys(claim(5)) == {"site:a": 2, "": 3}

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("is_retried", [False, True])
    def test_the_end_of_a_job_with_a_key_rings_the_queue(self, user, rings, is_retried):
        """So does a failed attempt that is retried. The end of a job without a key does not."""
        for key in ("x", ""):
            (tasks.busy if is_retried else tasks.echo).using(owner=user, concurrency_key=key).enqueue(9)
            rings.clear()
            assert run_jobs() == 1
            assert (True in rings) is bool(key)

    def test_the_limit_of_the_policy(self):
        for _ in range(5):
            tasks.two_a_site.enqueue("a")
            tasks.two_a_site.enqueue(site="b")
        jobs = claim()
        assert keys(jobs) == {"site:a": 2, "site:b": 2}
        assert claim() == []
        finish(*[job for job in jobs if job.concurrency_key == "site:a"])
        assert keys(claim()) == {"site:a": 2}

    def test_the_key_of_using_replaces_that_of_the_policy(self, user):
        for key in ("mine", ""):
            tasks.one_an_owner.using(owner=user, concurrency_key=key).enqueue()
            tasks.one_an_owner.using(owner=user, concurrency_key=key).enqueue()
        assert keys(claim()) == {"mine": 1, "": 2}

    def test_a_delayed_job_counts_only_when_it_runs(self, user):
        later = timezone.now() + timedelta(hours=1)
        tasks.one_an_owner.using(owner=user, run_after=later).enqueue()
        tasks.one_an_owner.using(owner=user).enqueue()
        assert len(claim()) == 1
        Job.objects.filter(state="queued").update(run_after=timezone.now(), due_at=timezone.now())
        assert claim() == []

    def test_by_priority(self, user):
        tasks.one_an_owner.using(owner=user).enqueue()
        high = tasks.one_an_owner.using(owner=user, priority=7).enqueue()
        assert [str(job.id) for job in claim()] == [high.id]

    def test_the_key_of_a_job_without_an_owner(self):
        assert Job.objects.get(id=tasks.one_an_owner.enqueue().id).concurrency_key == "report:"

    @pytest.mark.parametrize(
        ("key", "error", "words"),
        [("x" * 201, ValueError, "concurrency_key has 201 characters"), (7, TypeError, "must be a string")],
    )
    def test_keys_that_cannot_be_stored(self, key, error, words):
        with pytest.raises(error, match=words):
            tasks.noop.using(concurrency_key=key).enqueue()


class TestQueues:
    def test_the_limit_of_a_queue(self, limit_queues):
        """Jobs of other queues run meanwhile."""
        limit_queues(reports=2)
        for _ in range(5):
            tasks.noop.using(queue_name="reports", priority=5).enqueue()
            tasks.noop.enqueue()
        jobs = claim()
        assert Counter(job.queue_name for job in jobs) == {"reports": 2, "default": 5}
        assert claim() == []
        finish(next(job for job in jobs if job.queue_name == "reports"))
        assert [job.queue_name for job in claim()] == ["reports"]

    def test_a_key_with_the_name_of_a_full_queue(self, limit_queues):
        """The key is not full."""
        limit_queues(reports=1)
        for _ in range(2):
            tasks.noop.using(queue_name="reports", priority=5).enqueue()
        tasks.noop.using(concurrency_key="reports").enqueue()
        assert keys(claim(2)) == {"": 1, "reports": 1}

    def test_a_batch_does_not_count(self, limit_queues):
        """It runs without a worker."""
        limit_queues(default=1)
        with batch(title="One"):
            tasks.noop.enqueue()
        assert Job.objects.filter(state="running", queue_name="default").count() == 1
        assert len(claim()) == 1

    def test_a_queue_limit_and_a_key_apply_to_the_same_jobs(self, limit_queues, user):
        """Of four keys in a queue with a limit of three, one job each of three keys is claimed."""
        limit_queues(reports=3)
        for number in range(4):
            for _ in range(2):
                tasks.noop.using(queue_name="reports", concurrency_key=f"key {number}").enqueue()
        jobs = claim()
        assert len(jobs) == 3 and len(keys(jobs)) == 3

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"limits": {"default": 0}}, "limits 'default' to 0 concurrent jobs"),
            ({"limits": {"default": "5"}}, "limits 'default' to '5' concurrent jobs"),
            ({"limits": 5}, None),
            ({"limits": {"elsewhere": 5}}, "limits the queue 'elsewhere', which is not among its QUEUES"),
        ],
    )
    def test_the_check_refuses_invalid_limits(self, settings, options, words):
        settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"], "OPTIONS": options}}
        found = [message for message in run_checks() if message.id == "notifications.W009"]
        assert len(found) == 1 and (words is None or words in found[0].msg)
        assert found[0].hint

    def test_a_wrong_limit_is_ignored(self, settings, caplog, user):
        """Others count, commands go on, and the log says so once."""
        limits = {"wrong": 0, "default": 2}
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": limits}}}
        for queue in ("wrong", "default"):
            for _ in range(3):
                tasks.noop.using(queue_name=queue).enqueue()
        jobs = [*claim(), *claim()]
        assert sorted(job.queue_name for job in jobs) == ["default"] * 2 + ["wrong"] * 3
        assert caplog.text.count("Ignored a wrong limit: TASKS['default'] limits 'wrong' to 0") == 1
        call_command("notify", "ada", "Hello", skip_checks=False)
        call_command("notifications", "prune", skip_checks=False)

    def test_a_limit_of_a_queue_of_another_backend_is_ignored(self, settings, caplog):
        """As the log says. That backend limits its queue itself."""
        backend = settings.TASKS["default"]
        settings.TASKS = {
            "default": {**backend, "QUEUES": ["a"], "OPTIONS": {"limits": {"mail": 2, "a": 3}}},
            "other": {**backend, "QUEUES": ["mail"]},
        }
        for _ in range(4):
            tasks.noop.using(queue_name="a").enqueue()
            tasks.noop.using(queue_name="mail", backend="other").enqueue()
        assert Counter(job.queue_name for job in claim()) == {"a": 3, "mail": 4}
        assert "Ignored a wrong limit: TASKS['default'] limits the queue 'mail'" in caplog.text

    @pytest.mark.parametrize("limits", [5, None, ["default"]])
    def test_limits_that_are_no_dict_are_ignored(self, settings, limits):
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": limits}}}
        tasks.noop.enqueue()
        assert len(claim()) == 1

    def test_the_check_accepts_valid_limits(self, limit_queues):
        limit_queues(reports=5)
        assert not [message for message in run_checks() if message.id == "notifications.W009"]


def test_jobs_without_limits_need_no_further_query(limit_queues):
    """A limit of another queue adds no query. A key adds a count of running jobs and a second query for candidates.

    PostgreSQL claims jobs without limits by one statement, and falls back to several when it has found a limit.
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
class TestConcurrentClaims:
    @pytest.mark.parametrize("round", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3))])
    def test_no_limit_is_exceeded(self, limit_queues, round):
        """Four workers claim jobs of keys and a queue with limits; after each claim the running jobs are counted."""
        limit_queues(reports=3)
        with transaction.atomic():
            for number in range(60):
                tasks.two_a_site.enqueue(number % 3)
                tasks.noop.using(queue_name="reports").enqueue()
                tasks.noop.using(concurrency_key=f"one {number % 4}").enqueue()
        exceeded = []

        def work(worker):
            idle = 0
            while idle < 3:
                jobs = claim_rows(worker, 5)
                running = Job.objects.filter(state="running").values_list("concurrency_key", "queue_name")
                counted = Counter(key or queue for key, queue in running)
                exceeded.extend(
                    (name, count)
                    for name, count in counted.items()
                    if count > (3 if name == "reports" else 2 if name.startswith("site") else 1)
                )
                finish(*jobs)
                idle = 0 if jobs else idle + 1

        run_in_threads(*(partial(work, uuid.uuid4()) for _ in range(4)))
        assert not exceeded
        work(uuid.uuid4())  # Jobs that all claimers skipped because another one had locked them.
        assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}

    def test_two_workers(self, start_worker):
        """The end of a job in one worker wakes the other, which claims the next job of the key."""
        for _ in range(2):
            start_worker(concurrency=20)
        tasks.running_by_site.clear()
        with transaction.atomic():
            results = [tasks.two_a_site.enqueue(number % 3) for number in range(30)]
        assert {job.state for job in until_done(*results)} == {"succeeded"}
        assert {running for _, running in tasks.seen} <= {1, 2} and len(tasks.seen) == 30

    def test_a_job_that_waits_for_its_retry_does_not_count(self, worker, gate):
        waiting = tasks.busy.using(concurrency_key="x").enqueue(3, 3600)
        wait_until(
            lambda: Job.objects.filter(id=waiting.id, attempt=1, state="queued"),
            what="the job to wait for its retry",
        )
        until_done(tasks.noop.using(concurrency_key="x").enqueue())
