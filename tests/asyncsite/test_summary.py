"""Counts, median and 95th percentile."""

import pytest

from asyncsite.models import Call
from asyncsite.summary import (
    compute_totals,
    describe_call,
    describe_outcomes,
    describe_problems,
    percentile,
    response_times,
)

pytestmark = pytest.mark.nightly_on_old_django


def test_percentiles_are_values_that_occurred():
    """By nearest rank."""
    assert percentile([7], 95) == 7
    assert percentile([1, 2, 3, 4], 50) == 2
    assert percentile(list(range(1, 101)), 95) == 95
    assert percentile(list(range(1, 21)), 95) == 19
    assert percentile([], 50) is None


def test_times_are_those_of_calls_with_a_response():
    """An error status is a response; an aborted or refused call has none."""
    calls = [
        Call(outcome="ok", status=200, elapsed_ms=30),
        Call(outcome="failed", status=500, elapsed_ms=10),
        Call(outcome="failed"),
        Call(outcome="refused"),
    ]
    assert response_times(calls) == [10, 30]
    assert compute_totals(calls).as_dict() == {
        "ok": 1,
        "failed": 2,
        "refused": 1,
        "median_ms": 10,
        "p95_ms": 30,
    }


def test_problems_name_the_first_one():
    """With its status, or why there is none, and without what is the same of all URLs. A long URL is shortened."""
    missing = describe_call(Call(url="https://api.example.com/orders", status=404, error="404 Not Found"))
    assert describe_problems(3, 1, missing) == "3 failed, 1 refused, first: api.example.com/orders: 404"
    assert describe_problems(1, 0, missing) == "1 failed: api.example.com/orders: 404"
    assert describe_problems(0, 0, "") == ""
    assert describe_call(Call(url="http://a.example/", error="a.example broke off.")) == "a.example broke off"
    long = describe_call(Call(url="https://api.example.com/orders/export?page=12", status=404))
    assert describe_problems(4, 0, long) == "4 failed, first: api.example.com/or…t?page=12: 404"


def test_outcomes_of_zero_are_left_out():
    assert describe_outcomes(1036, 0, 2) == "1,036 passed, 2 refused"
    assert describe_outcomes(0, 0, 0) == ""
