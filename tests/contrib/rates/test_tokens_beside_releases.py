"""Calls and jobs of one rate share its limit, also where both take from it at one moment."""

import threading

import pytest

from notifications.contrib.rates import charge, tokens
from notifications.contrib.rates.declarations import read_rates
from notifications.contrib.rates.models import Release
from tests.contrib.rates import rated_tasks
from tests.support.duties import run_duty
from tests.support.statements import preceded
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]


def test_a_token_is_not_taken_twice(declare):
    """A call that waits for the row of the limit counts the jobs which were released meanwhile."""
    declare(partner={"rate": "60/h", "burst": 5})
    charge("partner", 0)  # it has a row
    for _ in range(20):
        rated_tasks.fetch.enqueue()
    is_releasing, waits_long_enough = threading.Event(), threading.Event()
    taken = []

    def release():
        def wait_for_the_call():
            is_releasing.set()
            waits_long_enough.wait(1)  # it waits for this transaction

        with preceded('UPDATE "notifications_rates_limit"', wait_for_the_call):
            run_duty("release jobs of rates")

    def call():
        assert is_releasing.wait(10)
        taken.append(tokens.take(read_rates().by_name["partner"], "partner", 1))
        waits_long_enough.set()

    run_in_threads(release, call)
    assert Release.objects.count() == read_rates().by_name["partner"].burst_at_once
    assert taken[0] > 0, "One more than the burst."
