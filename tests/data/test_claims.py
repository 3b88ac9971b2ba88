"""Claims beside others that hold rows."""

import pytest
from django.db import connection

from notifications.ids import uuid7
from notifications.jobs.claiming import candidates, claim_queries, queues
from notifications.models import Job
from tests.data.rows import job
from tests.support.claims import claim_rows


@pytest.mark.parametrize("key", ["", "key"])
def test_what_others_hold_is_skipped(on_postgresql, elsewhere, key):
    """As much of it as other workers claim at once: the next ones are claimed, and those stay where they are."""
    queues.pause("other")
    held = [job(None).pk for _ in range(claim_queries.EXTRA_ROWS_READ)]
    asked = [job(None, concurrency_key=key).pk for _ in range(2)]
    other = elsewhere()
    other.begin()
    other.do(lambda: list(Job.objects.filter(pk__in=held).select_for_update(no_key=True)))
    assert [claimed.pk for claimed in claim_rows(uuid7(), 3)] == asked[: 1 if key else 2]
    other.roll_back()
    assert [claimed.pk for claimed in claim_rows(uuid7(), 3)] == held[:3]


@pytest.mark.parametrize("lanes", [{"sync": 2}, {"async": 2, "sync": 1, "suspect": 1}])
@pytest.mark.parametrize("way", ["of queues", "anywhere"])
def test_a_claim_locks_no_more_than_it_takes(on_postgresql, elsewhere, way, lanes):
    """Of several queues and lanes too: what it leaves is there for others at the same moment."""
    names = {"default": False, "second": False}
    for lane in lanes:
        for name in ("default", "second", "default", "second"):
            Job.objects.filter(pk=job(None).pk).update(queue_name=name, lane=lane)
    jobs = Job.objects.count()
    other = elsewhere()
    other.begin()

    def lock():
        sql, params = (
            candidates.lock_query_of_queues(2, names, lanes)
            if way == "of queues"
            else candidates.lock_query_of_all_queues(2, lanes)
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return len(cursor.fetchall())

    assert other.do(lock) == 2
    assert len(claim_rows(uuid7(), 100)) == jobs - 2


@pytest.mark.parametrize("held_back", [False, True])
def test_what_others_hold_of_a_lane_is_skipped(on_postgresql, elsewhere, held_back):
    """Two workers that are rung at the same moment share the jobs of sync tasks."""
    if held_back:
        queues.pause("other")
    asked = [job(None).pk for _ in range(6)]
    other = elsewhere()
    other.begin()
    other.do(lambda: list(Job.objects.filter(pk__in=asked[:3]).select_for_update(no_key=True)))
    claimed = claim_rows(uuid7(), 10, lanes={"async": 10, "sync": 2, "suspect": 1})
    assert [one.pk for one in claimed] == asked[3:5]
