"""Query plans: what operators run reads a bounded number of rows, however large the tables are."""

from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from bench.seed import Seeding, make_users
from notifications import streams, times
from notifications.api import notify
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.jobs import JobFilter
from notifications.management import pause_queue
from notifications.models import Job, Notification, Stream
from notifications.streams import marking, rebuilding
from tests.data.plans import can_scan, explain, pages_read
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.database_law, pytest.mark.nightly]

ROWS = 40_000
#: Steps of SQLite's virtual machine, or pages of PostgreSQL, where about 1,000 rows are read.
MAX_READ = {"sqlite": 60_000, "postgresql": 2_500}


@pytest.fixture
def seeded(transactional_db):
    Seeding(connection, users=make_users(100)).insert(jobs=ROWS, notifications=ROWS)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_stream SET seen = 0, unseen = unread")


def statements_of(queries):
    # Django writes %% of a query without parameters as it is.
    return [
        sql.replace("%%", "%")
        for query in queries.captured_queries
        for sql in query["sql"].split("; ")
        if can_scan(sql)
    ]


@contextmanager
def reads_few_rows():
    with CaptureQueriesContext(connection) as queries:
        yield queries
    statements = statements_of(queries)
    assert statements
    with transaction.atomic():
        too_much = {
            sql[:700]: read for sql in statements if (read := pages_read(sql)) > MAX_READ[connection.vendor]
        }
    assert not too_much, "\n\n".join(f"{read}: {sql}" for sql, read in too_much.items())


def test_checks_of_doctor(seeded, set_bounds):
    """With a backlog of thousands of jobs, one queue of them paused, and thousands of unread notifications."""
    set_bounds(counted=50, searched=500)
    ended = Job.objects.filter(state="succeeded").order_by("id").values_list("id", flat=True)[: ROWS // 8]
    Job.objects.filter(id__in=list(ended)).update(state="queued", seq=0, executor="sync")
    pause_queue("mail")
    connection.cursor().execute("ANALYZE")
    with reads_few_rows():
        found = {finding["check"] for finding in doctor()}
    assert {"unread", "numbering", "tables", "workers", "queues", "lost jobs", "shares"} <= found


def test_failed_jobs_of_a_time_are_found_by_their_index(db):
    """On SQLite too, which has two indexes that it prefers by the order in which they were created."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL knows how many rows an index has.")
    condition = JobFilter(state="failed", finished_from=times.now())
    for name in ("failed", "finished"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT sql FROM sqlite_master WHERE name = %s", [f"notifications_job_{name}"])
            [create] = cursor.fetchone()
            cursor.execute(f"DROP INDEX notifications_job_{name}")
            cursor.execute(create)
        with CaptureQueriesContext(connection) as queries:
            assert condition.few_ids() == []
        assert "USING INDEX notifications_job_failed " in explain(queries.captured_queries[-1]["sql"])


def test_jobs_of_a_change_and_pending_rows(seeded, set_bounds):
    """Counted are those of a task that none of them has, and all of them. Pending rows are found by their index."""
    check_that_pending_rows_are_found_by_their_index()
    set_bounds(counted=500)
    for conditions, count in ((JobFilter(task_path="nothing"), 0), (JobFilter(), 500)):
        with reads_few_rows():
            assert conditions.count("retry") == (count, True)


def check_that_pending_rows_are_found_by_their_index():
    """With statistics SQLite would look each user up in the index of all rows: it is done each second."""
    with CaptureQueriesContext(connection) as queries:
        streams.number_pending()
        streams.find_pending(100)
    found = [query["sql"] for query in queries.captured_queries if "seq IS NULL" in query["sql"]]
    assert len(found) == 3
    for sql in found:
        assert "_unnumbered" in explain(sql), explain(sql)


@pytest.mark.nightly_names("*[cancelled]", on="postgres")
@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_jobs_of_a_change_are_counted_within_the_times_of_creation(seeded, state):
    """Those beside them are not read, however many there are."""
    finished = Job.objects.filter(state="succeeded").order_by("-created_at")
    Job.objects.filter(pk__in=list(finished.values_list("pk", flat=True)[: ROWS // 2])).update(state=state)
    connection.cursor().execute("ANALYZE")
    jobs = Job.objects.filter(state=state).order_by("-created_at")
    newest = jobs[9].created_at
    conditions = JobFilter(state=state, task_path=jobs[0].task_path, created_from=newest)
    count = jobs.filter(task_path=jobs[0].task_path, created_at__gte=newest).count()
    with reads_few_rows():
        assert conditions.count("retry") == (count, False)


def test_wrong_counts_are_found_within_limits(transactional_db, django_user_model):
    """Of the users whose unread notifications are read; pending changes are not wrong."""
    users = [django_user_model.objects.create_user(f"user{number}").pk for number in range(4)]
    for user in users:
        notify(user, "One"), notify(user, "Two")
    marking.mark(users[0], "read", 1)
    for pending in (
        Notification(user_id=users[0], title="New", created_at="2026-01-01T00:00:00Z"),
        *Notification.objects.filter(user=users[1])[:1],
    ):
        pending.seq, pending.read_at = None, "2026-01-01T00:00:00Z" if pending.raised else None
        pending.save()
    assert rebuilding.find_wrong_counts(100) == rebuilding.find_wrong_counts() == {}
    Stream.objects.filter(user=users[1]).update(unread=7)
    Stream.objects.filter(user=users[2]).update(unseen=7)
    Notification.objects.filter(user=users[3], raised=2).update(counted=False)
    assert rebuilding.find_wrong_counts(100) == rebuilding.find_wrong_counts()
    assert list(rebuilding.find_wrong_counts(100)) == users[1:]
    assert list(rebuilding.find_wrong_counts(5)) == users[1:2]


def columns_read_from_rows(sql):
    """Return the instructions of SQLite that read a column of a job from its row, not from an index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rootpage FROM sqlite_master WHERE name = 'notifications_job'")
        [root] = cursor.fetchone()
        cursor.execute(f"EXPLAIN {sql}")
        program = cursor.fetchall()
    cursors = {p1 for _, opcode, p1, p2, *_ in program if opcode == "OpenRead" and p2 == root}
    return [line for line in program if line[1] == "Column" and line[2] in cursors]


@pytest.mark.with_all_apps("incidents are those of notifications.contrib.operations")
def test_incidents_are_recorded_and_read_by_indexes(seeded, admin_client):
    """Those who failed since the last time are read, by a duty that is done every 15 seconds."""
    run_duty("record failures")
    assert Incident.objects.exists() and AffectedUser.objects.exists()
    connection.cursor().execute("ANALYZE")
    with reads_few_rows():
        run_duty("record failures")
    incident = Incident.objects.order_by("-users").first()
    tell = reverse("admin:notifications_operations_overview_tell")
    with reads_few_rows():
        composer = admin_client.get(tell, {"incident": incident.pk}, follow=True)
    assert composer.context["recipients"] is None
    form = {
        name: field.value() or ""
        for name in ("title", "level", "audience_kind", "affected")
        for field in [composer.context["adminform"].form[name]]
    }
    with reads_few_rows():
        preview = admin_client.post(composer.request["PATH_INFO"], form)
    assert preview.context["number"] == str(incident.users)


#: Of 10,000 failed jobs: steps of SQLite's virtual machine, or pages of PostgreSQL.
MAX_READ_OF_FAILURES = {"sqlite": 1_400_000, "postgresql": 4_000}


def analyze():
    """Return whether the index alone is read from now on: PostgreSQL looks at rows that a transaction may not see."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            return cursor.execute("ANALYZE")
        cursor.execute("VACUUM ANALYZE notifications_job")
        cursor.execute("SELECT relallvisible >= relpages FROM pg_class WHERE relname = 'notifications_job'")
        return cursor.fetchone()[0]


@pytest.mark.with_all_apps("the overview is that of notifications.contrib.operations")
@pytest.mark.parametrize("deliveries", ["hidden", "shown"])
def test_failures_are_read_by_one_index(seeded, deliveries, admin_client):
    """10,000 of them, without a look at the row of each job: it took SQLite half of the time."""
    ended = times.now()
    ids = Job.objects.filter(state="succeeded").order_by("id").values_list("id", flat=True)[:10_000]
    Job.objects.filter(id__in=list(ids)).update(state="failed", finished_at=ended)
    wait_until(analyze, what="all rows to be visible to all transactions")
    with CaptureQueriesContext(connection) as queries:
        page = admin_client.get(
            reverse("admin:notifications_operations_overview_figures"), {"deliveries": deliveries}
        )
    assert sum(group.count for group in page.context["figures"].failures.groups) >= 9_900
    [sql] = [query["sql"] for query in queries.captured_queries if " AS failures" in query["sql"]]
    plan = explain(sql)
    if connection.vendor == "postgresql":
        assert "Index Only Scan Backward using notifications_job_failed" in plan
    else:
        assert "notifications_job USING INDEX notifications_job_failed" in plan
        assert not columns_read_from_rows(sql)
    with transaction.atomic():
        assert pages_read(sql) < MAX_READ_OF_FAILURES[connection.vendor]
