"""Rows of writers are rolled up into periods without losing or doubling a count, and old ones are deleted."""

import time
from datetime import timedelta
from itertools import islice

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.contrib.operations.models import JobStatistics
from notifications.contrib.operations.statistics import read_figures, read_points, read_totals, roll_up
from notifications.contrib.operations.statistics.recording import first_shard
from notifications.models import Job
from notifications.testing import run_jobs
from tests.contrib.operations.statistics.test_recording import counted
from tests.jobs import tasks
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db

Period = JobStatistics.Period


def write(
    moment, *, writer=1, written=None, queue="default", task="a.b", outcome="succeeded", count=1, **more
):
    """Add a row of a writer, as of this many seconds since 1970."""
    moment = int(moment)
    JobStatistics.objects.create(
        period=Period.MINUTE,
        shard=first_shard(written or moment) + writer,
        start=moment - moment % 60,
        queue_name=queue,
        task_path=task,
        outcome=outcome,
        **{"count": count, "enqueued": count, "wait_microseconds": 0, "run_microseconds": 0, **more},
    )


def roll_up_all():
    chunks = 0
    while roll_up_chunk():
        chunks += 1
    return chunks


def roll_up_chunk():
    """Roll up some rows, and return how many."""
    if found := list(islice(roll_up.find_rows(), 25)):
        roll_up.roll_up(found)
    return len(found)


def rows(period):
    found = JobStatistics.objects.filter(period=period, shard=0).order_by("start")
    return list(found.values_list("start", "count"))


def test_rows_are_rolled_up_into_each_period():
    """Rows of one minute by several writers become one for each period."""
    day = 86_400 * 20_000
    for writer in (1, 2):
        write(day + 5, writer=writer, wait_3=1)
        write(day + 65, writer=writer, run_3=1)
    write(day + 7200)
    write(day + 86_400)
    roll_up_all()
    assert rows(Period.MINUTE) == [(day, 2), (day + 60, 2), (day + 7200, 1), (day + 86_400, 1)]
    assert rows(Period.HOUR) == [(day, 4), (day + 7200, 1), (day + 86_400, 1)]
    assert rows(Period.DAY) == [(day, 5), (day + 86_400, 1)]
    assert rows(Period.ALL_TIME) == [(0, 6)]
    assert not JobStatistics.objects.filter(shard__gt=0).exists()
    total = JobStatistics.objects.get(period=Period.ALL_TIME)
    assert (total.wait_3, total.run_3, total.wait_4, total.enqueued) == (2, 2, None, 6)


def test_later_rows_are_added_to_rolled_up_ones():
    """The end of a job that was enqueued long ago is counted in its minute too."""
    day = 86_400 * 20_000
    for count in (1, 10):
        write(day, count=count)
        roll_up_all()
    for period in Period:
        assert [count for _, count in rows(period)] == [11]


def test_sums_are_the_same_at_each_moment():
    """While some rows are rolled up and others not, readers count each end once, in each period."""
    now = timezone.now()
    for number in range(60):
        write(time.time() - 600 - number, writer=number, queue=f"q{number % 3}")
    expected = [(f.queue, f.succeeded, f.enqueued) for f in read_figures(timedelta(hours=1), now=now)]
    assert [row[1] for row in expected] == [20, 20, 20]
    chunks = 0
    while True:
        for window in (timedelta(hours=1), timedelta(days=7), timedelta(days=300)):
            figures = read_figures(window, now=now)
            assert [(f.queue, f.succeeded, f.enqueued) for f in figures] == expected
        assert sum(point.succeeded for point in read_points(timedelta(hours=1), now=now)) == 60
        assert counted() == {"succeeded": 60}
        if not roll_up_chunk():
            break
        chunks += 1
    assert chunks >= 1


def test_rows_of_the_current_minute_are_not_rolled_up(set_bounds):
    """Their writers still add to them."""
    write(time.time())
    assert roll_up_chunk() == 0
    set_bounds(delays=0)
    assert roll_up_chunk() == 1


def test_old_rows_are_deleted_and_totals_stay():
    now = timezone.now().timestamp()
    ages = {"minutes": 31, "hours": 91, "days": 731}
    for days in (1, *ages.values()):
        write(now - days * 86_400)
    roll_up_all()
    run_duty("roll up statistics")
    assert [len(rows(period)) for period in Period] == [1, 2, 3, 1]
    assert counted() == {"succeeded": 4}


def test_figures_outlast_the_jobs():
    """Pruning deletes jobs, not what they count."""
    for _ in range(3):
        tasks.noop.enqueue()
    run_jobs()
    call_command("notifications", "prune", days=0)
    assert not Job.objects.exists()
    assert counted() == {"succeeded": 3}
    (figures,) = read_figures(timedelta(hours=1))
    assert (figures.queue, figures.succeeded) == ("default", 3)


def test_a_worker_rolls_up(start_worker, set_bounds):
    """One of them does so once a minute."""
    set_bounds(delays=0.05)
    write(time.time() - 600)
    start_worker()
    wait_until(lambda: rows(Period.ALL_TIME) == [(0, 1)], timeout=60, what="the statistics to be rolled up")
    assert read_totals()[0].count == 1
