"""The limit of active jobs per user, and which INSERTs check it."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.exceptions import TooManyJobs
from notifications.jobs import limits
from notifications.models import Job
from tests.data.plans import insert_rows
from tests.data.test_plans_of_claims import insert_queued_jobs, rows_read
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.nightly_on_old_django]


@pytest.fixture(autouse=True)
def set_limit(settings):
    """set_limit(64) sets the limit. Each test begins with an empty cache."""
    limits._unchecked.clear()
    limits._counted.clear()

    def set_limit(number):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": number}

    return set_limit


@pytest.fixture(autouse=True)
def long_validity(set_bounds):
    """On a slow machine a check must not expire during a test."""
    set_bounds(known=60)


def enqueue(user, times=1):
    for _ in range(times):
        tasks.noop.using(owner=user).enqueue()


def count_checks(user, times):
    """Return how many statements check the limit while `times` jobs are enqueued."""
    with CaptureQueriesContext(connection) as queries:
        enqueue(user, times)
    return sum("seq = 0" in query["sql"] for query in queries.captured_queries)


@pytest.mark.parametrize("number", [1, 2, 15, 16, 33, 100])
def test_one_job_above_the_limit_is_refused(set_limit, user, number):
    set_limit(number)
    enqueue(user, number)
    with pytest.raises(TooManyJobs, match=f"There are {number} active jobs already"):
        enqueue(user)
    assert Job.objects.count() == number


def test_below_half_of_the_limit_one_check_covers_a_sixteenth_of_it(set_limit, user):
    set_limit(160)
    assert count_checks(user, 40) == 4


def test_each_user_is_checked(set_limit, user, other_user):
    set_limit(160)
    assert [count_checks(user, 10), count_checks(other_user, 10)] == [1, 1]


def test_above_half_of_the_limit_each_insert_checks(set_limit, user):
    set_limit(64)
    enqueue(user, 40)
    assert count_checks(user, 10) >= 10


def test_a_check_expires(set_limit, user, set_bounds):
    set_limit(160)
    set_bounds(known=-1)
    assert count_checks(user, 10) == 10


def test_eight_processes_stay_within_the_limit(set_limit, user, monkeypatch):
    """Each has a cache of its own, and all of them check just below half of the limit."""
    set_limit(64)
    enqueue(user, 25)
    caches = [{} for _ in range(8)]
    refused = set()
    for turn in range(200):
        monkeypatch.setattr(limits, "_unchecked", caches[turn % 8])
        try:
            enqueue(user)
        except TooManyJobs:
            refused.add(turn % 8)
    assert refused == set(range(8))
    assert Job.objects.count() == 64


def test_a_rollback_does_not_raise_the_limit(set_limit, user):
    """The cache still counts jobs that were inserted without a check and then rolled back."""
    set_limit(64)
    with transaction.atomic():
        enqueue(user, 20)
        transaction.set_rollback(True)
    enqueue(user, 64)
    with pytest.raises(TooManyJobs):
        enqueue(user)


def test_batches_and_retries_empty_the_cache(set_limit, user):
    """They call raise_if_exceeded() and then add jobs, so that the next INSERT checks again."""
    set_limit(160)
    enqueue(user)
    limits.raise_if_exceeded(user.pk)
    assert count_checks(user, 1) == 1


def test_a_large_limit(set_limit, user, set_bounds):
    """One job above it is refused, and one that ends makes room at once."""
    set_bounds(rows=5)
    set_limit(100)
    for _ in range(2):
        enqueue(user, 100 - Job.objects.filter(seq=0).count())
        assert Job.objects.filter(seq=0).count() == 100
        with pytest.raises(TooManyJobs):
            enqueue(user)
        ended = Job.objects.filter(seq=0).order_by("?").values_list("id", flat=True)[:7]
        Job.objects.filter(id__in=list(ended)).update(state="succeeded", seq=None)


def test_a_large_limit_is_not_checked_by_reading_all(set_limit, user):
    """Beside 9,000 active jobs an INSERT reads those only that were queued since a count.

    Also by the statistics of an idle hour, in which no two jobs of a user have one number.
    """
    set_limit(10_000)
    insert_rows(20, 10, "job")
    insert_queued_jobs(9_000, user=user)
    enqueue(user)
    assert rows_read(lambda: enqueue(user, 5)) < {"sqlite": 10_000, "postgresql": 100}[connection.vendor]
