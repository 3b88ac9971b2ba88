"""How many active jobs a user may have, and how often that is looked at."""

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.exceptions import TooManyJobs
from notifications.jobs.enqueueing import active_limit
from notifications.models import Job
from tests.jobs import tasks

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def limit(settings, monkeypatch):
    """limit(64): so many; nothing is known from other tests."""
    monkeypatch.setattr(active_limit, "_counts", {})

    def limit(number):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": number}

    return limit


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    """On a machine however slow."""
    monkeypatch.setattr(active_limit, "COUNT_VALID_SECONDS", 60)


def ask(user, times=1):
    for _ in range(times):
        tasks.noop.using(owner=user).enqueue()


def looks(user, times):
    """How often jobs of the user are looked at while so many are enqueued."""
    with CaptureQueriesContext(connection) as queries:
        ask(user, times)
    return sum("seq = 0" in query["sql"] for query in queries.captured_queries)


@pytest.mark.parametrize("number", [1, 2, 15, 16, 33, 100])
def test_not_one_more(limit, demo, number):
    limit(number)
    ask(demo, number)
    with pytest.raises(TooManyJobs, match=f"There are {number} active jobs already"):
        ask(demo)
    assert Job.objects.count() == number


def test_one_look_for_some(limit, demo):
    """A sixteenth of the limit, as long as there are no more than half of it."""
    limit(160)
    assert looks(demo, 40) == 4


def test_another_user_is_looked_at_too(limit, demo):
    limit(160)
    other = get_user_model().objects.create_user("other")
    assert [looks(user, 10) for user in (demo, other)] == [1, 1]


def test_beyond_half_there_is_a_look_for_each(limit, demo):
    limit(64)
    ask(demo, 40)
    assert looks(demo, 10) >= 10


def test_a_look_holds_for_a_moment(limit, demo, monkeypatch):
    limit(160)
    monkeypatch.setattr(active_limit, "COUNT_VALID_SECONDS", -1)
    assert looks(demo, 10) == 10


def test_eight_processes_stay_within_the_limit(limit, demo, monkeypatch):
    """Each knows only of its own looks, and all of them look at the worst moment."""
    limit(64)
    ask(demo, 25)
    processes = [{} for _ in range(8)]
    refused = set()
    for turn in range(200):
        monkeypatch.setattr(active_limit, "_counts", processes[turn % 8])
        try:
            ask(demo)
        except TooManyJobs:
            refused.add(turn % 8)
    assert refused == set(range(8))
    assert Job.objects.count() == 64


def test_a_rollback_gives_nothing_away(limit, demo):
    """What was taken without a look stays taken."""
    limit(64)
    with transaction.atomic():
        ask(demo, 20)
        transaction.set_rollback(True)
    ask(demo, 64)
    with pytest.raises(TooManyJobs):
        ask(demo)


def test_what_else_makes_jobs_has_the_next_one_looked_at(limit, demo):
    """A batch, and jobs that are tried again, count themselves."""
    limit(160)
    ask(demo)
    active_limit.refuse_too_many(demo.pk)
    assert looks(demo, 1) == 1
