"""Limits that end or change while jobs wait for them: all of the jobs run, whatever has ended the limit."""

import pytest
from django.core.management import call_command
from django.test import modify_settings

from notifications.api import batch
from notifications.contrib.rates.models import Limit
from notifications.extension import Where
from notifications.models import Job, LimitedQueue
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import check_limits, claim_all
from tests.contrib.rates.test_jobs import ONE_AN_HOUR, enqueue, ids, in_queue, moved, waiting
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.database_law]
WITHOUT_APP = {"remove": ["notifications.contrib.rates"]}


class TestLimitsThatAreGone:
    """50 wait for each of them."""

    @pytest.fixture(autouse=True)
    def fifty(self, declare):
        declare(partner=ONE_AN_HOUR)
        enqueue(51)
        claim_all()
        assert waiting().count() == 50

    def test_a_rate_that_is_not_declared(self, declare):
        declare()
        check_limits()
        assert len(claim_rows(None, 100)) == 50 and not LimitedQueue.objects.exists()

    def test_a_task_without_its_decorator(self, monkeypatch):
        monkeypatch.delattr(rated_tasks.fetch.func, "_notifications_limit_key")
        check_limits()
        assert len(claim_rows(None, 100)) == 50 and not LimitedQueue.objects.exists()

    @modify_settings(INSTALLED_APPS=WITHOUT_APP)
    def test_the_app_that_is_taken_out(self):
        check_limits()
        assert len(claim_rows(None, 100)) == 50 and not LimitedQueue.objects.exists()

    def test_a_version_that_knows_no_limits(self):
        """It has scheduled jobs only."""
        LimitedQueue.objects.all().delete()
        with moved(hours=1.1):
            run_duty("queue jobs that are due", Where.SERVER)
            assert in_queue().count() == 50

    def test_a_rate_that_is_changed(self, declare):
        declare(partner={"rate": "60/m", "burst": 1})
        check_limits()
        with moved(seconds=3):
            assert len(claim_all()) == 1
        with moved(seconds=6):
            assert len(claim_all()) == 1

    def test_a_process_of_another_version_that_does_not_know_the_rate(self, declare):
        """It opens what this one closes, once in a check, and is the one that runs what has no limit there."""
        for _ in range(5):
            neighbor = tasks.noop.enqueue()
            declare()
            check_limits()  # the other process, which ends: it does not go on while jobs wait
            declare(partner=ONE_AN_HOUR)
            begun = claim_rows(None, 1)
            assert ids(begun) == [neighbor.id]
            for _ in range(10):
                claim_rows(None, 10)
            assert Limit.objects.get().used == 1 and waiting().count() == 50
        declare()
        check_limits()
        assert len(claim_rows(None, 100)) == 50 and not LimitedQueue.objects.exists()

    def test_a_process_that_knows_a_slower_rate_opens_nothing(self, declare):
        declare(partner={"rate": "1/d", "burst": 1})
        check_limits()
        assert waiting().count() == 50


@pytest.fixture
def without_tables():
    """without_tables() takes back the migration of the app, which is applied again after the test."""
    yield lambda: call_command("migrate", "notifications_rates", "zero", verbosity=0)
    call_command("migrate", "notifications_rates", verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_a_migration_back(declare, without_tables):
    """While the app is installed other jobs run, when it is taken out all do."""
    declare(partner=ONE_AN_HOUR)
    enqueue(51)
    claim_all()
    without_tables()
    neighbor = tasks.noop.enqueue()
    check_limits()
    assert ids(claim_rows(None, 100)) == [neighbor.id]
    with modify_settings(INSTALLED_APPS=WITHOUT_APP):
        check_limits()
        assert len(claim_rows(None, 100)) == 50 and not LimitedQueue.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_runs_follows_a_rate_that_is_changed(declare, worker):
    """A check finds it. No ring is needed: what it opens is a row, which all workers read before the next claim."""
    declare(partner=ONE_AN_HOUR)
    jobs = enqueue(2)
    until_done(jobs[0])
    declare(partner={"rate": "60/m", "burst": 1})
    assert until_done(jobs[1], timeout=20)
    assert Limit.objects.get().used == 2


@pytest.mark.django_db(transaction=True)
def test_a_batch_ends_whose_jobs_wait(declare, worker, user):
    declare(partner={"rate": "600/m", "burst": 1})
    with batch(owner=user) as group:
        jobs = enqueue(8)
    until_done(*jobs)
    wait_until(lambda: Job.objects.filter(id=group.id, state="succeeded").exists(), what="the batch to end")
    assert Limit.objects.get().used == 8
