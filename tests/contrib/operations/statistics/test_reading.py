"""Figures, points and totals are read in one query each."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import times
from notifications.contrib.operations.models import JobStatistics
from notifications.contrib.operations.statistics import read_figures, read_points, read_totals
from notifications.contrib.operations.statistics.reading import read_names
from tests.contrib.operations.statistics.test_roll_up import roll_up_all, write
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 20, 12, 30, 30, tzinfo=UTC)


def at(**before):
    return (NOW - timedelta(**before)).timestamp()


@pytest.fixture(params=["new rows", "rolled up rows"])
def roll_up_rows(request):
    """Have the test run with rows of writers, and with rolled up ones."""
    return roll_up_all if request.param == "rolled up rows" else lambda: None


def test_figures_of_queues(roll_up_rows, django_assert_num_queries):
    """Of each queue in which something ended within the window, with rates."""
    write(at(minutes=1), count=8, wait_microseconds=4_000_000, wait_9=8, run_10=8)
    write(at(minutes=2), count=2, task="other", outcome="failed", wait_11=2)
    write(at(minutes=2), count=3, outcome="lost", enqueued=0)
    write(at(minutes=2), count=4, outcome="retried", enqueued=0, run_20=4)
    write(at(minutes=3), count=1, queue="reports", outcome="cancelled")
    write(at(hours=2), count=100)
    roll_up_rows()
    with django_assert_num_queries(1):
        default, reports = read_figures(timedelta(hours=1), now=NOW)
    assert (default.queue, default.task, reports.queue) == ("default", "", "reports")
    assert (default.succeeded, default.failed, default.lost, default.retried) == (8, 2, 3, 4)
    assert (default.ended, default.enqueued, default.failure_rate) == (10, 10, 0.2)
    assert (default.start, default.seconds) == (datetime(2026, 5, 20, 11, 30, tzinfo=UTC), 3630)
    assert default.ended_per_minute == pytest.approx(10 / 60.5)
    assert (default.wait.count, default.wait.total_seconds, default.run.count) == (10, 4.0, 8)
    assert 0.256 < default.wait.percentile(0.5) <= 0.512
    assert 1.024 < default.wait.percentile(0.95) <= 2.048
    assert (reports.cancelled, reports.failure_rate, reports.wait.percentile(0.5)) == (1, None, None)


@pytest.mark.parametrize(
    ("window", "period", "longer_seconds"),
    [({"hours": 3}, JobStatistics.Period.MINUTE, 3600), ({"days": 7}, JobStatistics.Period.HOUR, 86_400)],
)
def test_figures_from_longer_periods(window, period, longer_seconds):
    """Each job is counted once, and of a whole longer period only its own rows are read."""
    length = timedelta(**window)
    moments = [NOW - length * part / 190 for part in range(200)]
    for part, moment in enumerate(moments):
        write(moment.timestamp(), count=part, task=("a.b", "other")[part % 2], wait_9=part)
    write((NOW + timedelta(days=1)).timestamp(), count=1000)
    roll_up_all()
    before = read_figures(length, now=NOW)
    counted = {part for part, moment in enumerate(moments) if moment >= before[0].start}
    assert before[0].ended == before[0].wait.count == sum(counted)
    (other,) = read_figures(length, now=NOW, task="other")
    assert other.ended == sum(part for part in counted if part % 2)
    first = -(-before[0].start.timestamp() // longer_seconds) * longer_seconds
    end = NOW.timestamp() // longer_seconds * longer_seconds
    deleted, _ = JobStatistics.objects.filter(period=period, start__gte=first, start__lt=end).delete()
    assert deleted > 50
    assert read_figures(length, now=NOW) == before


def test_figures_of_tasks(roll_up_rows):
    write(at(minutes=1), count=8)
    write(at(minutes=2), count=2, task="other")
    write(at(minutes=2), count=1, task="other", queue="reports")
    roll_up_rows()
    figures = read_figures(timedelta(hours=1), now=NOW, by_task=True)
    assert [(f.queue, f.task, f.succeeded) for f in figures] == [
        ("default", "a.b", 8),
        ("default", "other", 2),
        ("reports", "other", 1),
    ]
    (figures,) = read_figures(timedelta(hours=1), now=NOW, queue="default", task="other")
    assert (figures.task, figures.succeeded) == ("other", 2)


@pytest.mark.parametrize("window", [{"days": 1}, {"days": 7}, {"days": 60}, {"days": 700}])
def test_windows(roll_up_rows, window):
    """What ended within the window is counted, what ended well before it is not."""
    length = timedelta(**window)
    write(at(minutes=1))
    write((NOW - length).timestamp() + 60)
    write((NOW - length).timestamp() - 86_400)
    roll_up_rows()
    (figures,) = read_figures(length, now=NOW)
    assert figures.succeeded == 2
    assert length.total_seconds() <= figures.seconds <= length.total_seconds() + 86_400
    points = read_points(length, now=NOW)
    assert len(points) <= 60
    assert points[-1].succeeded == 1
    moments = [
        NOW - timedelta(minutes=1),
        NOW - length + timedelta(minutes=1),
        NOW - length - timedelta(days=1),
    ]
    assert sum(point.succeeded for point in points) == sum(moment >= points[0].start for moment in moments)
    assert abs(points[0].start - (NOW - length)) <= points[1].start - points[0].start


def test_points_are_equal_steps(roll_up_rows, django_assert_num_queries):
    """The last one lasts until now; one without jobs is there too."""
    write(at(seconds=5), count=1)
    write(at(minutes=30), count=5, outcome="failed")
    roll_up_rows()
    with django_assert_num_queries(1):
        points = read_points(timedelta(hours=1), 60, now=NOW)
    assert len(points) == 60
    starts = [point.start for point in points]
    assert {second - first for first, second in pairwise(starts)} == {timedelta(minutes=1)}
    assert (points[-1].start, points[-1].seconds) == (NOW.replace(second=0), 30)
    assert (points[-1].succeeded, points[29].failed) == (1, 5)
    assert sum(point.ended for point in points) == 6
    few = read_points(timedelta(hours=1), 7, now=NOW)
    assert len(few) == 7
    assert few[1].start - few[0].start == timedelta(minutes=9)
    assert sum(point.ended for point in few) == 6
    assert sum(point.ended for point in read_points(timedelta(hours=1), now=NOW, queue="other")) == 0
    with pytest.raises(ValueError, match="points"):
        read_points(timedelta(hours=1), 0)


def test_totals(roll_up_rows, django_assert_num_queries):
    write(at(minutes=1), count=8, run_3=8, run_microseconds=5_500_000)
    write(at(days=800), count=2)
    write(at(days=1), count=1, outcome="lost")
    roll_up_rows()
    run_duty("roll up statistics")
    with django_assert_num_queries(1):
        first, second = read_totals()
    assert (first.outcome, first.count) == ("lost", 1)
    assert (second.queue, second.task, second.outcome, second.count) == ("default", "a.b", "succeeded", 10)
    assert (second.run.count, second.run.total_seconds) == (8, 5.5)


def test_statistics_without_jobs():
    assert (read_figures(timedelta(hours=1)), read_totals()) == ([], [])
    assert {point.ended for point in read_points(timedelta(days=1), 24)} == {0}
    assert JobStatistics.objects.count() == 0


def test_names(roll_up_rows, django_assert_num_queries):
    """Each queue and task once, of those in which something ended within the window."""
    rows = (("default", "b"), ("default", "a"), ("mail", "b"), ("default", "b"))
    for writer, (queue, task) in enumerate(rows):
        write(at(minutes=1), writer=writer, queue=queue, task=task)
    write(at(hours=2), queue="old")
    roll_up_rows()
    with django_assert_num_queries(1):
        names = read_names(timedelta(hours=1), now=NOW, limit=9)
    assert names == [("default", "a"), ("default", "b"), ("mail", "b")]
    assert read_names(timedelta(hours=1), now=NOW, limit=1) == [("default", "a")]


def assert_found_by_index(queries):
    """Assert it for SQLite after ANALYZE of a million jobs, by which it would read through the index of the key."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite skips through an index.")
    with closing(sqlite3.connect(":memory:")) as copy:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name = 'notifications_operations_jobstatistics'"
            )
            copy.executescript(";".join(sql for (sql,) in cursor.fetchall() if sql))
        copy.execute("ANALYZE")
        rows = (
            "notifications_operations_jobstatistics",
            "sqlite_autoindex_notifications_operations_jobstatistics_1",
        )
        copy.execute("INSERT INTO sqlite_stat1 VALUES (?, ?, '458931 114733 114733 11 4 2 1')", rows)
        copy.execute("ANALYZE sqlite_schema")
        plans = [
            str(copy.execute(f"EXPLAIN QUERY PLAN {query['sql']}").fetchall())
            for query in queries.captured_queries
        ]
    assert [plan.count("USING INDEX notifications_statistics_new ") for plan in plans] == [1] * len(plans)


def test_rows_that_are_not_rolled_up_are_found_by_their_index():
    with CaptureQueriesContext(connection) as queries:
        read_points(timedelta(days=7))
        read_points(timedelta(days=7), queue="default")
        read_names(timedelta(days=7), now=times.now(), limit=10)
    assert_found_by_index(queries)
