"""The points of charts."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.contrib.operations.statistics import read_points
from notifications.contrib.operations.statistics.points import read_queues
from tests.contrib.operations.statistics.test_reading import NOW, assert_found_by_index, at, roll_up_rows  # noqa: F401 (a fixture)
from tests.contrib.operations.statistics.test_roll_up import write

pytestmark = pytest.mark.django_db


def test_queues_and_points(roll_up_rows, django_assert_num_queries):  # noqa: F811
    """Of the same time, in one query each: the sums of both are equal."""
    for minute in range(70):
        write(at(minutes=minute), count=minute, queue="default" if minute % 2 else "reports", wait_9=minute)
    write(at(minutes=5), count=3, outcome="failed", run_4=3)
    roll_up_rows()
    with django_assert_num_queries(2):
        queues = read_queues(timedelta(hours=1), 30, now=NOW)
        points = read_points(timedelta(hours=1), 30, now=NOW)
    assert list(queues) == ["default", "reports"]
    assert sum(point.ended for point in points) == sum(queue.ended for queue in queues.values()) == 1770 + 3
    assert queues["default"].failed == 3 and queues["default"].run.count == 3
    assert queues["reports"].wait.count == sum(range(0, 60, 2))
    assert queues["default"].start == points[0].start
    assert queues["default"].seconds == sum(point.seconds for point in points)


@pytest.mark.parametrize(
    ("window", "count"), [({"hours": 3}, 60), ({"days": 1}, 24), ({"days": 7}, 56), ({"days": 60}, 30)]
)
def test_queues_from_longer_periods(roll_up_rows, window, count):  # noqa: F811
    """Sums of a queue that are read from hours and days are those of the steps, from the first second to the last."""
    length = timedelta(**window)
    for part in range(200):
        moment = (NOW - length * part / 190).timestamp()
        outcome = ("succeeded", "failed", "cancelled", "lost")[part % 4]
        queue = "default" if part % 3 else "reports"
        write(
            moment, count=part + 1, queue=queue, outcome=outcome, wait_9=part, run_microseconds=500_000 * part
        )
    write((NOW + timedelta(days=1)).timestamp(), count=1000)
    roll_up_rows()
    queues = read_queues(length, count, now=NOW)
    points = read_points(length, count, now=NOW)
    for name in ("succeeded", "failed", "cancelled", "lost", "enqueued"):
        assert sum(getattr(queue, name) for queue in queues.values()) == sum(
            getattr(point, name) for point in points
        )
    for name in ("wait", "run"):
        of_queues, of_points = (
            [getattr(part, name) for part in parts] for parts in (queues.values(), points)
        )
        assert sum(times.count for times in of_queues) == sum(times.count for times in of_points)
        seconds = sum(times.total_seconds for times in of_queues)
        assert seconds == pytest.approx(sum(times.total_seconds for times in of_points))


def test_rows_that_are_not_rolled_up_are_found_by_their_index():
    with CaptureQueriesContext(connection) as queries:
        read_queues(timedelta(days=7))
    assert_found_by_index(queries)
