"""Query plans beside a million jobs that have ended, and 99,000 that are scheduled, of one owner."""

from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.extension import Where
from notifications.models import Job, uuid7
from tests.data.plans import STREAMS, USERS, can_scan, explain, insert_rows, scans_of
from tests.data.test_plans_of_claims import MAX_READ, insert_queued_jobs, rows_read
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import record, succeeded

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.timeout(1_200),
    pytest.mark.nightly,
    pytest.mark.nightly_on_postgres,
]

SCHEDULED = 99_000


def test_a_scheduled_job_reads_no_others(transactional_db, settings):
    """When it is enqueued, joins the queue, is claimed and ends: each statement reads a few rows, by an index.

    The active jobs of its owner are counted before, once for a thousand.
    """
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 100_000}
    insert_rows(STREAMS, 10 * USERS, "job")
    owner = get_user_model().objects.create(username="ada")
    tomorrow = timezone.now() + timedelta(days=1)
    insert_queued_jobs(SCHEDULED, due_at=tomorrow, run_after=tomorrow, user=owner, queue_name="default")
    tasks.noop.using(owner=owner, run_after=tomorrow).enqueue()
    read, move = {}, partial(run_duty, "queue jobs that are due", Where.SERVER)
    for analyzed in ("", ", analyzed"):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        claimed = []
        steps = {
            "enqueue": partial(enqueue_soon, owner),
            "move": move,
            "claim": lambda claimed=claimed: claimed.extend(claim_rows(uuid7(), 10)),
            "end": lambda claimed=claimed: record(succeeded(claimed[0])),
            "move nothing": move,
        }
        for name, step in steps.items():
            with CaptureQueriesContext(connection) as queries:
                read[name + analyzed] = rows_read(step)
            # Those without parameters are logged as they were before these are put in.
            parts = [sql for query in queries for sql in query["sql"].replace("%%", "%").split("; ")]
            statements = [sql for sql in parts if can_scan(sql)]
            scans = [
                (sql, line)
                for sql in statements
                for line in scans_of(explain(sql))
                if "notifications_job" in line
            ]
            assert statements and not scans, f"{name}{analyzed}: {scans}"
        assert [job.user_id for job in claimed] == [owner.pk]
    assert max(read["move nothing"], read["move nothing, analyzed"]) < MAX_READ[connection.vendor] / 100, read
    assert max(read.values()) < MAX_READ[connection.vendor] / 4, read


def enqueue_soon(owner):
    """Enqueue a job that is due when this returns."""
    id = tasks.noop.using(owner=owner, run_after=timezone.now() + timedelta(hours=1)).enqueue().id
    Job.objects.filter(id=id).update(due_at=timezone.now())
