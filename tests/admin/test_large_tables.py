"""The lists of the admin on large tables: few queries, each by an index, with few rows read."""

from collections import Counter

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from bench.seed import Seeding, make_users
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.operations.models import JobStatistics
from notifications.contrib.operations.statistics import read_totals
from notifications.models import Job, Notification
from tests.data.plans import can_scan, explain, pages_read, scans_of

pytestmark = [pytest.mark.database_law, pytest.mark.nightly, pytest.mark.nightly_on_postgres]

ROWS = 60_000
#: Queries of one page: those for session, user and permissions, one for each executor of queued jobs, and a savepoint.
MAX_QUERIES = 28
#: Steps of SQLite's virtual machine, or pages of PostgreSQL, that one query may take: a slice, not the table.
MAX_READ = {"sqlite": 300_000, "postgresql": 12_500}
#: The same for the sums of statistics: of a week about 7,000 rows, with 60 columns each to add.
MAX_READ_STATISTICS = {"sqlite": 1_500_000, "postgresql": 25_000}
#: The same for a page without a search, whose rows an index yields.
MAX_READ_BY_INDEX = {"sqlite": 80_000, "postgresql": 3_000}

BY_INDEX = [
    *(
        "?deliveries=shown",
        "?state__exact=failed",
        "?state__exact=cancelled",
        "?state__exact=queued",
        "?state__exact=running",
    ),
    "?batch=0198f4d2-7c1e-7b3a-9d54-3f1b6a0c8e21",
    *("?created=hour", "?state__exact=failed&created=week", "?user=seed7"),
    "?state__exact=failed&finished=hour",
]
IN_SLICES = [
    *("", "?state__exact=succeeded", "?task_path=billing.tasks.close_month", "?queue_name=nightly"),
    *(
        "?q=nothing",
        "?error=shop.tasks.sync_stock+builtins.KeyError",
        "?error=shop.tasks.sync_stock+lost",
        "?state__exact=failed&finished=week&task_path=nothing",
        "?finished=hour",
        "?state__exact=failed&queue_name=nightly",
        "?failure=builtins.KeyError+nowhere",
        "?worker=0198f4d2-7c1e-7b3a-9d54-3f1b6a0c8e21",
        "?worker=no-such-host&state__exact=running",
        "?arguments=nothing",
        "?arguments=1",
    ),
]


NOTIFICATIONS_BY_INDEX = [
    *("", "?user=seed7", "?created=hour", "?created=hour&read=unread", "?created=day&user=seed7"),
    *("?broadcast={broadcast}", "?broadcast={broadcast}&read=unread"),
]
NOTIFICATIONS_IN_SLICES = [
    *("?read=read", "?read=unread", "?read=archived", "?level=error", "?category=job", "?q=nothing"),
    *("?level=error&created=week", "?user=seed1", "?category=nothing&read=unread"),
]


@pytest.fixture
def seeded(transactional_db):
    Seeding(connection, users=make_users(100)).insert(jobs=ROWS, notifications=ROWS)


@pytest.fixture
def broadcast(seeded):
    """A broadcast to 5,000 users."""
    row = Broadcast.objects.create(
        title="Maintenance",
        level="info",
        audience_kind="everybody",
        recipients=5_000,
        sent=5_000,
        state="sent",
        created_at="2026-01-01T00:00:00Z",
    )
    sent = Notification.objects.order_by("id").values_list("id", flat=True)[1_000:6_000]
    Notification.objects.filter(id__in=list(sent)).update(broadcast=row.pk)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return row


def queries_of(client, address):
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in queries.captured_queries]


def test_seeded_rows_are_realistic(seeded):
    """All states but waiting, tasks and queues occur, and failed jobs have attempts with several exceptions."""
    assert Job.objects.count() == ROWS
    states = {*Job.objects.values_list("state", flat=True).distinct()}
    assert states | {"waiting"} == set(Job.State.values)
    assert len(Job.objects.values_list("task_path").distinct()) == 8
    failed = Job.objects.filter(state="failed")
    assert 0.03 < failed.count() / ROWS < 0.05
    assert len(failed.values_list("attempts__exception_class_path").distinct()) > 5
    assert not failed.filter(attempts=None).exists()


def test_seeded_statistics_are_those_of_the_jobs(seeded):
    """Of each period, by queue, task and outcome; and each time lies in a bucket."""
    ended = Job.objects.exclude(state__in=["queued", "running"])
    counts = Counter(ended.values_list("queue_name", "task_path", "state"))
    for period in JobStatistics.Period:
        rows = JobStatistics.objects.filter(period=period)
        found = rows.values_list("queue_name", "task_path", "outcome").annotate(Sum("count"))
        assert {(queue, task, outcome): count for queue, task, outcome, count in found} == counts
    totals = read_totals()
    assert (
        sum(total.run.count for total in totals)
        == sum(total.wait.count for total in totals)
        == sum(counts.values())
    )
    assert JobStatistics.objects.filter(period=JobStatistics.Period.MINUTE).count() > ROWS / 3


def check_that_no_query_is_compiled(admin_client):
    """PostgreSQL compiles a query with a high estimate, which takes longer than the page."""
    addresses = [f"/admin/notifications/job/{query}" for query in (*BY_INDEX, *IN_SLICES)]
    for address in [
        *addresses,
        "/admin/notifications/notification/",
        "/admin/notifications_operations/overview/",
    ]:
        for sql in queries_of(admin_client, address):
            if not can_scan(sql.rpartition("; ")[2]):
                continue
            with transaction.atomic(), connection.cursor() as cursor:
                *before, query = sql.split("; ")
                for statement in before:
                    cursor.execute(statement)
                cursor.execute(f"EXPLAIN {query}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "JIT:" not in plan, f"{address}\n{sql[:1000]}\n{plan}"
            # A count up to a limit may read that many rows in any order.
            is_bounded_count = "LIMIT 10001" in sql
            assert is_bounded_count or "Seq Scan on notifications_job " not in plan, f"{sql[:1000]}\n{plan}"


def test_pages_of_large_tables(seeded, broadcast, admin_client):
    """Each query of each page uses an index and reads at most a slice; the number of queries is bounded."""
    if connection.vendor == "postgresql":
        check_that_no_query_is_compiled(admin_client)
    too_much = {}
    pages = [(f"/admin/notifications/job/{query}", MAX_READ_BY_INDEX) for query in BY_INDEX]
    pages += [(f"/admin/notifications/job/{query}", MAX_READ) for query in IN_SLICES]
    for queries, limits in (
        (NOTIFICATIONS_BY_INDEX, MAX_READ_BY_INDEX),
        (NOTIFICATIONS_IN_SLICES, MAX_READ),
    ):
        notifications = "/admin/notifications/notification/"
        pages += [(notifications + query.format(broadcast=broadcast.pk), limits) for query in queries]
    pages.append(("/admin/notifications_broadcasts/broadcast/", MAX_READ_BY_INDEX))
    pages.append((f"/admin/notifications_broadcasts/broadcast/{broadcast.pk}/change/", MAX_READ_BY_INDEX))
    pages.append((f"/admin/notifications/job/{Job.objects.first().pk}/change/", MAX_READ_BY_INDEX))
    for path in ("", "tasks/"):
        pages += [
            (f"/admin/notifications_operations/overview/{path}?period={period}", MAX_READ)
            for period in ("hour", "day", "week")
        ]
    of_task = "queue=default&task=shop.tasks.sync_stock"
    pages += [
        (f"/admin/notifications_operations/overview/?period={period}&{of_task}", MAX_READ)
        for period in ("hour", "day", "week")
    ]
    pages.append(("/admin/notifications_schedules/schedule/", MAX_READ_BY_INDEX))
    pages.append(("/admin/notifications_operations/alert/", MAX_READ_BY_INDEX))
    admin_client.get(pages[0][0])
    for address, limits in pages:
        statements = queries_of(admin_client, address)
        if len(statements) > MAX_QUERIES:
            too_much[address] = len(statements)
        for sql in filter(can_scan, (sql for text in statements for sql in text.split("; "))):
            most = MAX_READ_STATISTICS if "notifications_operations_jobstatistics" in sql else limits
            if (read := pages_read(sql)) > most[connection.vendor]:
                too_much[f"{address} {sql[:500]}"] = (read, scans_of(explain(sql)))
    assert not too_much, "\n\n".join(f"{page}\n    {found}" for page, found in too_much.items())


#: Filters without a hit, and filters that show what one owner has of half of the table.
UNUSUAL = [
    *(
        "notification/?created_from=2001-01-01T00:00&created_until=2001-02-01T00:00",
        "notification/?created=hour&level=no",
    ),
    *("notification/?created=week&category=nothing", "notification/?read=read&category=nothing"),
    *(
        "notification/?user=seed0",
        "notification/?user=seed0&created=week",
        "notification/?user=seed0&category=nothing",
    ),
    *(
        "job/?error=shop.tasks.send_receipt+no.SuchError",
        "job/?task_path=nothing",
        "job/?q=nothing&created=week",
    ),
    *(
        "job/?user=seed0",
        "job/?user=seed0&task_path=nothing",
        "job/?state__exact=succeeded&queue_name=nothing",
    ),
]
#: Steps of SQLite's virtual machine, or pages of PostgreSQL, where at most 1,000 rows are read.
MAX_READ_UNUSUAL = {"sqlite": 40_000, "postgresql": 3_000}


#: Steps of SQLite's virtual machine, or pages of PostgreSQL, where 750 rows are read.
MAX_READ_PER_SLICE = {"sqlite": 15_000, "postgresql": 1_500}


def test_a_slice_ends_with_its_rows(transactional_db, admin_client, set_bounds):
    """A page that is read in slices does not read the rest of the week that was asked for."""
    Seeding(connection, users=make_users(100)).insert(jobs=100, notifications=20_000)
    set_bounds(rows=500, searched=1_000)
    address = "/admin/notifications/notification/?created=week&category=nothing"
    slices = [sql for sql in queries_of(admin_client, address) if "LIMIT 51" in sql]
    assert len(slices) == 2
    assert max(map(pages_read, slices)) < MAX_READ_PER_SLICE[connection.vendor]


@pytest.fixture
def heavy_owner(transactional_db):
    """One user has half of all jobs and notifications."""
    users = make_users(100)
    Seeding(connection, users=users).insert(jobs=20_000, notifications=20_000)
    with connection.cursor() as cursor:
        for table in ("job", "notification"):
            cursor.execute(
                f"UPDATE notifications_{table} SET user_id = (SELECT id FROM auth_user WHERE username = 'seed0') "
                "WHERE user_id % 2 = 1"
            )
    return get_user_model().objects.get(username="seed0")


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_no_hit_and_a_heavy_owner(heavy_owner, admin_client, is_analyzed, set_bounds):
    """Whatever index the database prefers for a condition, each query reads ``MAX_ROWS_READ`` rows at most."""
    set_bounds(rows=500, searched=1_000)
    if is_analyzed:
        connection.cursor().execute("ANALYZE")
    jobs = Job.objects.filter(user=heavy_owner, state="succeeded").order_by("id")
    addresses = [*UNUSUAL, *(f"job/{jobs[number].pk}/change/" for number in (0, 5_000))]
    too_much = {}
    admin_client.get("/admin/notifications/job/")
    for address in addresses:
        statements = queries_of(admin_client, f"/admin/notifications/{address}")
        for sql in filter(can_scan, (sql for text in statements for sql in text.split("; "))):
            if (read := pages_read(sql)) > MAX_READ_UNUSUAL[connection.vendor]:
                too_much[f"{address} {sql[:700]}"] = (read, explain(sql)[:700])
    assert not too_much, "\n\n".join(f"{page}\n    {found}" for page, found in too_much.items())
