"""Jobs that wait for closed limits are in nobody's way, however many they are, and so are the limits.

``-s`` prints the milliseconds of what is measured.
"""

import time

import pytest
from django.db import connection

from notifications.contrib.rates.models import Limit
from notifications.db import database_now
from notifications.models import Job, uuid7
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import check_limits, open_limits
from tests.contrib.rates.test_jobs import moved
from tests.data.conftest import filled_tables  # noqa: F401 (fixture)
from tests.data.plans import ID, NUMBERS
from tests.data.test_plans_of_claims import rows_read
from tests.support.claims import claim_rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.tables("job"),
    pytest.mark.nightly,
    pytest.mark.nightly_on_postgres,
]
COUNT = 10_000
#: The most that a claim and a round may read: rows of jobs, or steps of SQLite's virtual machine.
MAX_READ = {"sqlite": 100_000, "postgresql": 2_000}


def insert_copies(job, key):
    """Insert copies of a job with the keys that an SQL expression of ``i`` gives, one hour apart from one another."""
    columns = [f.column for f in Job._meta.concrete_fields if f.column not in ("id", "limit_key", "user_id")]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO notifications_job (id, limit_key, user_id, {', '.join(columns)}) "
            f"{NUMBERS[connection.vendor].format(COUNT - 1)} SELECT {ID[connection.vendor]}, {key}, user_id, "
            f"{', '.join(columns)} FROM notifications_job, n WHERE id = %s",
            [Job._meta.pk.get_db_prep_value(job, connection)],
        )
        cursor.execute("ANALYZE")


def measure(what, work):
    started = time.perf_counter()
    result = work()
    print(f"{connection.vendor}, {what}: {(time.perf_counter() - started) * 1000:.1f} ms")
    return result


@pytest.mark.parametrize("key", ["'partner:' || i", "'partner:0'"], ids=["10,000 keys", "one key"])
def test_jobs_that_wait_for_closed_limits(filled_tables, declare, key):  # noqa: F811
    declare(partner={"rate": "1/h", "burst": 1})
    now = database_now()
    insert_copies(rated_tasks.fetch_of.enqueue("0").id, key)
    keys = set(Job.objects.exclude(limit_key="").values_list("limit_key", flat=True))
    closed = int(now.timestamp() * 1e6) + 3_600_000_000
    Limit.objects.bulk_create(
        Limit(key=key, name="partner", closed_until=closed, used_at=now) for key in keys
    )
    other = rated_tasks.plain.enqueue()
    claimed, rounds, longest = [], 0, 0.0
    started = time.perf_counter()
    while Job.objects.filter(state="queued", due_at=None).exclude(limit_key="").exists():
        before = time.perf_counter()
        claimed += [str(job.id) for job in claim_rows(uuid7(), 100)]
        rounds, longest = rounds + 1, max(longest, time.perf_counter() - before)
        if rounds == 1:
            print(f"the first claim: {longest * 1000:.1f} ms")
            assert claimed == [other.id]
    print(
        f"{rounds} claims met all: {time.perf_counter() - started:.1f} s, the longest {longest * 1000:.1f} ms"
    )
    assert Job.objects.filter(due_at__isnull=False).count() == COUNT

    for _ in range(3):
        rated_tasks.plain.enqueue()
        connection.close()  # as a process that knows nothing
        assert len(measure("the claim of a plain job", lambda: claim_rows(uuid7(), 100))) == 1
    rated_tasks.plain.enqueue()
    assert rows_read(lambda: claim_rows(uuid7(), 100)) < MAX_READ[connection.vendor]
    measure("a round that opens nothing", open_limits)
    measure("the check of all", check_limits)
    with moved(hours=1.01):
        measure("the opening of all", open_limits)
        begun = claim_rows(uuid7(), 100)
    assert len(begun) == min(len(keys), 100)
