"""Claims beside others that hold rows."""

import pytest
from django.db import connection

from notifications.ids import uuid7
from notifications.jobs import due, queues, states
from notifications.models import Job
from tests.data.rows import job


@pytest.mark.parametrize("key", ["", "key"])
def test_what_others_hold_is_skipped(on_postgresql, elsewhere, key):
    """As much of it as other workers claim at once: the next ones are claimed, and those stay where they are."""
    queues.pause("other")
    held = [job(None).pk for _ in range(due.AHEAD)]
    asked = [job(None, concurrency_key=key).pk for _ in range(2)]
    other = elsewhere()
    other.begin()
    other.do(lambda: list(Job.objects.filter(pk__in=held).select_for_update(no_key=True)))
    assert [claimed.pk for claimed in states.claim(uuid7(), 3)] == asked[: 1 if key else 2]
    other.roll_back()
    assert [claimed.pk for claimed in states.claim(uuid7(), 3)] == held[:3]


def test_a_claim_locks_no_more_than_it_takes(on_postgresql, elsewhere):
    """Of several queues too: what it leaves is there for others at the same moment."""
    queues.pause("other")
    names = {"default": False, "second": False}
    for name in ("default", "second", "default", "second"):
        Job.objects.filter(pk=job(None).pk).update(queue_name=name)
    other = elsewhere()
    other.begin()

    def lock():
        sql, params = due.of_queues(2, names)
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return len(cursor.fetchall())

    assert other.do(lock) == 2
    assert len(states.claim(uuid7(), 3)) == 2
