"""The duties that end waits, and find jobs that wait for nothing."""

import logging

import pytest
from django.db import connection, transaction

from notifications.jobs.transitions import waiting
from notifications.models import Job, Wait
from notifications.testing import clock
from tests.jobs.test_waits import DAY, row, suspended
from tests.support.duties import run_duty
from tests.support.threads import run_in_threads

SEARCH = "queue jobs that wait for nothing"
pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("jobs_clock"),
]


def test_locked_jobs_hold_up_no_others():
    """More due waits than one transaction ends are of jobs that another one holds locked."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks no rows.")
    ids = [suspended().id for _ in range(3)]
    locked, free = ids[:2], ids[2]
    clock.advance(DAY)

    def end():
        run_duty("end waits that are due")

    limit = waiting.MAX_WAITS_PER_TRANSACTION
    waiting.MAX_WAITS_PER_TRANSACTION = 2
    try:
        with transaction.atomic():
            list(Job.objects.select_for_update().filter(id__in=locked))
            run_in_threads(end)
            assert row(free).state == "queued"
            assert {row(id).state for id in locked} == {"waiting"}
    finally:
        waiting.MAX_WAITS_PER_TRANSACTION = limit
    run_duty("end waits that are due")
    assert {row(id).state for id in locked} == {"queued"}


def test_more_waits_than_one_transaction_ends(set_bounds):
    set_bounds(rows=1)
    ids = [suspended().id for _ in range(2)]
    clock.advance(DAY)
    run_duty("end waits that are due")
    assert {row(id).state for id in ids} == {"queued"}


def test_a_job_without_a_wait_is_queued_and_logged(caplog):
    job, other = suspended(), suspended()
    Wait.objects.filter(job=job.id).delete()
    with caplog.at_level(logging.ERROR, "notifications.jobs"):
        run_duty(SEARCH)
    assert [record.getMessage() for record in caplog.records] == [
        f"Queued a waiting job that had nothing to wait for, which is a defect: job {job.id}"
    ]
    assert (row(job.id).state, row(other.id).state) == ("queued", "waiting")


def test_the_search_goes_on_after_its_last_job(set_bounds):
    set_bounds(rows=2)
    ids = sorted(suspended().id for _ in range(3))
    Wait.objects.filter(job=ids[2]).delete()
    run_duty(SEARCH)
    assert row(ids[2]).state == "queued"


def test_the_condition():
    def is_needed():
        sql, params = waiting.due_condition()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {sql}", params)
            return bool(cursor.fetchone()[0])

    assert not is_needed()
    suspended()
    assert not is_needed()
    clock.advance(DAY)
    assert is_needed()
    run_duty("end waits that are due")
    assert not is_needed()
