"""Failures in groups."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib.operations.admin.overview import failures
from tests.contrib.operations.test_overview import fail_jobs


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("Traceback\nshop.PartnerError: No answer: 503\n", "No answer: 503"),
        ("Traceback\nValueError\n", ""),
        ("Traceback\nValueError: " + "long " * 60, "long " * 39 + "long…"),
        ("the end of a message: of 5,000 characters", "the end of a message: of 5,000 characters"),
        ("", ""),
    ],
)
def test_the_message_at_the_end_of_a_traceback(end, message):
    assert failures._read_message(end) == message


@pytest.mark.parametrize(("count", "is_capped"), [(1, False), (2, False), (3, True)])
def test_as_many_failures_as_are_read_are_all_of_them(db, count, is_capped, set_bounds):
    """The figures and the count before a retry say that there are more only if there are."""
    fail_jobs(count)
    set_bounds(counted=2)
    since = timezone.now() - timedelta(hours=1)
    found = failures.read_failures(since)
    assert (found.count, found.is_capped) == (min(count, 2), is_capped)
    assert [group.count for group in found.groups] == [min(count, 2)]
    assert failures.count_jobs(since, {}) == (min(count, 2), is_capped)
