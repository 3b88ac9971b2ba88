"""Query plans: the search for expired jobs reads those only, and a claim that meets none reads no more than before."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.extension import Upkeep, Where
from notifications.models import Job, uuid7
from tests.data.plans import explain
from tests.data.test_plans_of_claims import BACKLOG, insert_queued_jobs, queued_job, rows_read
from tests.support.claims import claim_rows
from tests.support.duties import run_duty

pytestmark = [pytest.mark.database_law, pytest.mark.tables("job")]

#: Rows, or steps of SQLite's virtual machine, that a search reads of few jobs.
FEW = {"sqlite": 3_000, "postgresql": 50}


DUTY = "end expired jobs"


def is_needed():
    [duty] = [duty for duty in Upkeep(Where.WORKER, seconds=0).duties if duty.name == DUTY]
    condition, params = duty.condition()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {condition}", params)
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_search_reads_only_expired_jobs(filled_tables, analyzed):
    """Beside queued jobs that do not expire, and others that expire later."""
    now = timezone.now()
    insert_queued_jobs(BACKLOG // 2)
    insert_queued_jobs(BACKLOG // 2, expires_at=now + timedelta(hours=1))
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    assert not is_needed()
    assert rows_read(is_needed) < FEW[connection.vendor]
    Job.objects.bulk_create(queued_job(expires_at=now - timedelta(seconds=1)) for _ in range(2))
    assert is_needed()
    assert rows_read(is_needed) < FEW[connection.vendor]
    with CaptureQueriesContext(connection) as queries:
        run_duty(DUTY)
    search = next(each["sql"] for each in queries if "ORDER BY expires_at" in each["sql"])
    assert "notifications_job_expiry" in explain(search), explain(search)
    assert Job.objects.filter(state="failed").count() == 2


def test_jobs_without_an_expiry_are_not_in_its_index(filled_tables):
    with connection.cursor() as cursor:
        sql = "SELECT sql FROM sqlite_master WHERE name = 'notifications_job_expiry'"
        if connection.vendor == "postgresql":
            sql = "SELECT indexdef FROM pg_indexes WHERE indexname = 'notifications_job_expiry'"
        cursor.execute(sql)
        [(definition,)] = cursor.fetchall()
    assert '"expires_at" IS NOT NULL' in definition or "(expires_at IS NOT NULL)" in definition


def test_a_plain_claim_makes_no_more_statements(filled_tables):
    """It neither searches for expired jobs, nor has a condition that reads jobs behind the first ones."""
    insert_queued_jobs(BACKLOG, queue_name="default")
    claim_rows(uuid7(), 10)
    with CaptureQueriesContext(connection) as queries:
        assert len(claim_rows(uuid7(), 10)) == 10
    statements = [each["sql"] for each in queries if "notifications_job" in each["sql"]]
    assert not [sql for sql in statements if "expires_at >" in sql or "ORDER BY expires_at" in sql]
    assert len(statements) == {"sqlite": 3, "postgresql": 1}[connection.vendor], statements
