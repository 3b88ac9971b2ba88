"""Query plans: frequent queries find their rows by an index and read few others, however large the tables are."""

import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.db.keyset import NEWEST_FIRST, RowPosition
from notifications.db.transactions import ISOLATION
from notifications.ids import uuid7
from notifications.jobs import outcomes
from notifications.jobs.claiming import candidates, claim_queries, queues
from notifications.jobs.declaring.policies import DEFAULT_POLICY
from notifications.jobs.transitions import (
    claims,
    handing_over,
    isolating,
    manual,
    reaping,
    recording,
    resending,
    running,
)
from notifications.models import Job, Notification, Worker
from notifications.operations import unserved_engines, unserved_queues
from notifications.streams import (
    changes,
    inbox,
    listing,
    marking,
    marking_filtered,
    pages,
    purging,
    retention,
)
from notifications.streams.marking_seen import count_unseen_sql, mark_seen
from tests.data.rows import job, unnumbered
from tests.support.claims import claim_rows

pytestmark = pytest.mark.database_law

#: Streams; users with notifications and finished jobs; and the number of each per user.
STREAMS, USERS, ROWS_PER_USER = 20_000, 1_000, 100
#: Partial indexes of unnumbered, queued or running rows only. Reading all of such an index is not counted as a scan.
SMALL_INDEXES = (
    r"notifications_(n|job)_unnumbered|notifications_job_(ready|delayed|queued|keyed|handed|running)"
)
#: Tables with one row per process, queue, or problem and its reader, or a single row.
SMALL_TABLES = "worker|epoch|queue|announcedstate"

#: Lines of a plan that looks up delayed jobs by their time.
LOOKUP_PATTERNS = {
    "sqlite": [
        r"SEARCH notifications_job USING INDEX notifications_job_queued "
        r"\(queue_name=\? AND lane=\? AND run_after<\?\)"
    ],
    "postgresql": [r"using notifications_job_queued", r"Index Cond: .*queue_name.* AND \(run_after <="],
}

NUMBERS = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) ",
    "postgresql": "WITH n (i) AS (SELECT generate_series(1, {})) ",
}
ID = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()"}


@pytest.fixture
def large_tables(transactional_db):
    """Tables so large that the planner of PostgreSQL prefers an index to reading all of one, wherever there is one."""
    insert_rows(STREAMS, USERS)


@pytest.fixture
def filled_tables(transactional_db):
    """Tables with a quarter of these rows, for tests that count the rows which a query has read."""
    insert_rows(STREAMS // 4, USERS // 4)


def insert_rows(streams, users):
    """Insert notifications and finished jobs of many users, who have no rows: no foreign key is checked."""
    notice = {
        "id": ID[connection.vendor],
        "user_id": f"i % {users} + 1",
        "seq": f"2 * (i / {users}) + 1",
        "raised": f"2 * (i / {users}) + 1",
        "counted": "i % 2 = 0",
        "level": "'info'",
        "category": "''",
        "title": "'note'",
        "body": "''",
        "url": "''",
        "data": "'{}'",
        "key": f"'k' || (i / {users})",
        "created_at": "'2026-01-01 00:00:00+00:00'",
        "read_at": "CASE WHEN i % 2 = 1 THEN '2026-01-01 00:00:00+00:00' END",
    }
    if connection.vendor == "postgresql":
        notice["created_at"] += "::timestamptz"
        notice["read_at"] += "::timestamptz"
    job = {
        "id": ID[connection.vendor],
        "user_id": f"i % {users} + 1",
        "seq": f"2 * (i / {users}) + 2",
        "state": "'succeeded'",
        "title": "'work'",
        **dict.fromkeys(("version", "attempt", "max_attempts", "fence"), "1"),
        "priority": "0",
        "cancelled_by_other": "false",
        **dict.fromkeys(("task_path", "backend", "queue_name"), "'t'"),
        **dict.fromkeys(("args", "kwargs"), "'[]'"),
        **dict.fromkeys(
            (
                "progress_message",
                "url",
                "language",
                "trace",
                "idempotency_key",
                "idempotency_hash",
                "concurrency_key",
            ),
            "''",
        ),
        **dict.fromkeys(("created_at", "queued_at", "finished_at"), notice["created_at"]),
        "worker": ID[connection.vendor],
    }
    attempt = {
        "job_id": ID[connection.vendor],
        "number": "1",
        "ended_at": notice["created_at"],
        **dict.fromkeys(("outcome", "exception_class_path", "traceback"), "''"),
    }
    stream = {
        "user_id": "i",
        "head": str(2 * ROWS_PER_USER),
        "floor": "0",
        "unread": str(ROWS_PER_USER // 2),
        "seen": "10",
        "unseen": str(ROWS_PER_USER // 2 - 2),
        "guard": "0",
    }
    muted = {"user_id": "i", "category": "'muted'", "created_at": notice["created_at"]}
    pending = {
        "user_id": "i",
        **dict.fromkeys(("verb", "level"), "''"),
        "moment": notice["created_at"],
        **dict.fromkeys(("after", "up_to"), "0"),
    }
    with connection.cursor() as cursor:
        for table, columns, count in (
            ("mutedcategory", muted, streams),
            ("pendingmark", pending, streams),
            ("notification", notice, users * ROWS_PER_USER),
            ("job", job, users * ROWS_PER_USER),
            ("attempt", attempt, streams),
            ("stream", stream, streams),
            ("ring", {"user_id": "i"}, streams // 4),
        ):
            names, values = ", ".join(columns), ", ".join(columns.values())
            numbers = NUMBERS[connection.vendor].format(count)
            cursor.execute(f"INSERT INTO notifications_{table} ({names}) {numbers} SELECT {values} FROM n")
        cursor.execute("ANALYZE")


def number_a_few(user):
    unnumbered(user, 3, key="k2")
    streams.number([user])


def number_many_users(user):
    for other_user in range(1, 21):
        unnumbered(other_user, 2, key="k2")
    streams.number(range(1, 201))


def number_pending(user):
    unnumbered(user, 3)
    streams.number_pending()


def run_a_job(user):
    for _ in range(3):
        job(user)
    candidates.claimable_queues()
    jobs = claim_rows(uuid7(), 2)
    running.store_progress(jobs)
    recording.record_outcomes([outcomes.succeeded(row, DEFAULT_POLICY, None) for row in jobs])


def run_limited_jobs(user):
    for _ in range(3):
        job(user, concurrency_key="a")
        job(user, concurrency_key="b")
    while claim_rows(uuid7(), 2):
        pass


def cancel_and_retry(user):
    ids = [job(user).pk for _ in range(3)]
    (running,) = claim_rows(uuid7(), 1)
    manual.cancel(ids)
    manual.cancellations_requested(running.worker)
    manual.retry(ids)


def enqueue_with_key(user):
    for _ in range(2):
        for owner in (user, None):
            job(owner, idempotency_key="key", idempotency_hash="hash")


def reap_no_jobs(user):
    job(user)
    now = timezone.now()
    alive = Worker.objects.create(
        host="h", process="p", started_at=now, lease_until=now + timedelta(hours=1), concurrency=1
    )
    claim_rows(alive.pk, 1)
    running.read_claims(alive.pk)
    assert reaping.reap_jobs([uuid7()]) == 0


def read_active_jobs(user):
    for _ in range(3):
        job(user)
    changes.read_active_jobs(changes.read_active_versions([user])[user])
    changes.read_active_sums([user])


def warn_of_unserved_jobs(user):
    job(user)
    Worker.objects.all().delete()
    unserved_queues.warn_of_unserved_jobs()


def hand_jobs_over(user):
    """Some are handed over and one is claimed; some wait for a key."""
    handed = [job(user, lane="handed", hand_over_at=timezone.now()) for _ in range(3)]
    for _ in range(2):
        job(user, lane="engine", concurrency_key="a")
    handing_over.hand_over_due_jobs()
    resending.hand_over_again((), {("default", "default"): 5.0}, resending.Cursor((timezone.now(), uuid7())))
    job(user, lane="isolated")
    isolating.hand_over_isolated_jobs()
    claims.claim_handed_jobs(uuid7(), [handed[0].pk])
    handing_over.take_back([handed[1].pk])
    handing_over.move_to_configured_lanes()


def warn_of_unserved_jobs_of_engines(user):
    """Of a backend whose engine has no process."""
    for lane in ("engine", "handed"):
        job(user, lane=lane)
    options = {"default": {**settings.TASKS["default"], "OPTIONS": {"engine": "tests.engines.idle_engine"}}}
    with override_settings(TASKS=options):
        unserved_engines.warn_of_unserved_jobs()


def unarchive(user):
    inbox.mark(user, "archive", 90, some_ids(user))
    inbox.mark(user, "unarchive", 90)


#: What a search of the inbox page selects.
SEARCH = listing.Filters(category="", level="info", words=("note", "other"))


def undo(user):
    marked = marking.mark_all(user, "archive", 90)
    marking.undo_mark(user, "archive", marked.moment, marked.after, 90)


OPERATIONS = {
    "numbering": number_a_few,
    "numbering many": number_many_users,
    "numbering pending": number_pending,
    "numbering none": lambda user: streams.number_pending(),
    "marking as read": lambda user: inbox.mark(user, "read", 90),
    "marking some as read": lambda user: inbox.mark(user, "read", 90, some_ids(user)),
    "catch-up": lambda user: changes.read_missed({user: [2 * ROWS_PER_USER - 10]}),
    "long catch-up": lambda user: changes.read_missed({user: [-10]}),
    "catch-up of many": lambda user: changes.read_missed(
        {key: [2 * ROWS_PER_USER - 2] for key in range(1, 41)}
    ),
    "snapshot": lambda user: changes.read_snapshot(user, 2 * ROWS_PER_USER),
    "snapshots": lambda user: changes.read_snapshots({user: 2 * ROWS_PER_USER, user + 1: 2 * ROWS_PER_USER}),
    "unnumbered users": lambda user: changes.find_unnumbered_users([user]),
    "a page of the inbox": lambda user: pages.read_inbox_page(user, 2 * ROWS_PER_USER, 60),
    "the last page of the inbox": lambda user: pages.read_inbox_page(user, 2 * ROWS_PER_USER, 4),
    "a page of the archive": lambda user: listing.read_page(
        user, 50, head=2 * ROWS_PER_USER, filters=listing.Filters(archived=True)
    ),
    "a page of the unread": lambda user: listing.read_page(
        user, 50, head=2 * ROWS_PER_USER, filters=listing.Filters(read=False, category="")
    ),
    "a page of newer ones": lambda user: pages.read_inbox_page(user, 2 * ROWS_PER_USER, before=60),
    "a search": lambda user: pages.read_inbox_page(user, 2 * ROWS_PER_USER, filters=SEARCH),
    "a search of newer ones": lambda user: pages.read_inbox_page(
        user, 2 * ROWS_PER_USER, before=20, filters=SEARCH
    ),
    "categories": lambda user: listing.read_categories(
        user, below=2 * ROWS_PER_USER, filters=listing.Filters()
    ),
    "marking those of a category as read": lambda user: marking_filtered.mark_filtered(
        user, "read", 90, category=""
    ),
    "marking those of a level as unread": lambda user: marking_filtered.mark_filtered(
        user, "unread", 90, level="info"
    ),
    "marking all of a category": lambda user: marking.mark_all(user, "read", 90, category=""),
    "undoing": undo,
    "marking none as unread": lambda user: inbox.mark(user, "unread", 90),
    "marking as seen": lambda user: mark_seen(user, 90),
    "archiving": lambda user: inbox.mark(user, "archive", 90),
    "unarchiving": unarchive,
    "running a job": run_a_job,
    "reaping no jobs": reap_no_jobs,
    "purging": lambda user: purging.purge(user),
    "active jobs": read_active_jobs,
    "limited jobs": run_limited_jobs,
    "cancelling and retrying": cancel_and_retry,
    "unserved jobs": warn_of_unserved_jobs,
    "unserved jobs of engines": warn_of_unserved_jobs_of_engines,
    "idempotency keys": enqueue_with_key,
    "handing jobs over": hand_jobs_over,
}


def some_ids(user):
    return list(Notification.objects.filter(user=user).values_list("pk", flat=True)[:3])


def test_no_query_scans(large_tables, monkeypatch):
    """Each statement of frequent operations on a large table uses an index."""
    monkeypatch.setattr(changes.Position, "follows", lambda self, cursor: True)
    scanning = {}
    for user, (name, operation) in enumerate(OPERATIONS.items(), start=500):
        with CaptureQueriesContext(connection) as queries:
            operation(user)
        statements = [sql for query in queries.captured_queries for sql in query["sql"].split("; ")]
        explained = dict.fromkeys(sql for sql in statements if can_scan(sql))
        assert explained, f"{name} has executed no query."
        scanning |= {f"{name}: {sql[:700]}": scans for sql in explained if (scans := scans_of(explain(sql)))}
    assert not scanning, "\n\n".join(f"{sql}\n    {plan}" for sql, plan in scanning.items())


def test_deleted_users_are_searched_in_chunks(large_tables):
    """Deleted users are searched in chunks of streams, by the index of their key."""
    with CaptureQueriesContext(connection) as queries:
        assert len([user for chunk in purging.find_deleted_users() for user in chunk]) == STREAMS
    first, *later = [
        query["sql"] for query in queries.captured_queries if "notifications_stream" in query["sql"]
    ]
    assert "LIMIT" in first
    assert len(later) == STREAMS // purging.MAX_STREAMS_PER_CHUNK
    assert [sql for sql in later if scans_of(explain(sql)) or "LIMIT" not in sql] == []


def test_pruning_does_not_sort(large_tables):
    """Pruning selects the oldest rows by an index, without sorting all old ones while it holds SQLite's lock."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_notification SET archived_at = created_at")
        cursor.execute("ANALYZE")
    for model in (Job, Notification):
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            assert retention._prune_chunk(model, timezone.now()) == retention.MAX_ROWS_PER_TRANSACTION
        statements = [query["sql"] for query in queries.captured_queries if can_scan(query["sql"])]
        assert [scans for sql in statements if (scans := scans_of(explain(sql)))] == []
        (selection,) = [sql for sql in statements if f"LIMIT {retention.MAX_ROWS_PER_TRANSACTION}" in sql]
        assert not re.search("TEMP B-TREE|Sort", explain(selection)), explain(selection)


def test_claimable_queues_reads_no_delayed_jobs(large_tables, django_assert_num_queries):
    """The query for claimable queues, which a worker executes at each ring, reads no delayed jobs."""
    with connection.cursor() as cursor:
        later = f"'{timezone.now() + timedelta(days=1)}'" + "::timestamptz" * (
            connection.vendor == "postgresql"
        )
        cursor.execute(
            f"UPDATE notifications_job SET state = 'queued', seq = 0, run_after = {later}, finished_at = NULL"
        )
        cursor.execute("ANALYZE")
    with django_assert_num_queries(1) as queries:
        assert not candidates.claimable_queues()
    (query,) = queries.captured_queries
    for line in LOOKUP_PATTERNS[connection.vendor]:
        assert re.search(line, explain(query["sql"])), explain(query["sql"])


#: Queued jobs that cannot be claimed, and the most that a claim may read: rows, or steps of SQLite's virtual machine.
BACKLOG, MAX_READ = 10_000, {"sqlite": 40_000, "postgresql": 1_000}


@pytest.mark.parametrize("later", [False, True], ids=["ready", "later"])
@pytest.mark.parametrize("held_back", ["paused", "of another worker", "full", "of a full key"])
def test_claim_does_not_read_the_backlog(filled_tables, settings, monkeypatch, held_back, later):
    """A claim does not read the backlog of jobs that cannot be claimed, also with the statistics of empty queues."""
    for name in ("MAX_DELAYED_SORTED", "EXTRA_ROWS_READ"):
        monkeypatch.setattr(claim_queries, name, 20)
    key = "key" if held_back == "of a full key" else ""
    if held_back == "full":
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"held": 1}}}}
    if held_back.split()[-1] in ("full", "key"):
        queued_job(concurrency_key=key, priority=5, later=later).save()
        assert len(claim_rows(uuid7(), 1)) == 1
    insert_queued_jobs(BACKLOG, concurrency_key=key, priority=5, later=later)
    if held_back == "paused":
        queues.pause("held")
    served = ["default", "other"] if held_back == "of another worker" else []
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        queues_and_priorities = [("held" if key else "default", 7), ("other", 3), *[("default", 0)] * 60]
        claimable = [
            queued_job(queue_name=name, priority=priority) for name, priority in queues_and_priorities
        ]
        Job.objects.bulk_create(claimable)
        assert rows_read(lambda: candidates.claimable_queues(served)) < MAX_READ[connection.vendor]
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 100, queues=served)

        assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == claimable
        assert rows_read(lambda: claim_rows(uuid7(), 10, queues=served)) < MAX_READ[connection.vendor]


@pytest.mark.parametrize("held_back", ["nothing", "paused", "of a full key"])
@pytest.mark.parametrize(
    ("queued_lane", "claimed_lane"), [("sync", "async"), ("async", "sync"), ("suspect", "async")]
)
def test_claim_does_not_read_other_lanes(filled_tables, monkeypatch, queued_lane, claimed_lane, held_back):
    """A claim for one lane does not read the backlog of another lane, delayed jobs included."""
    for name in ("MAX_DELAYED_SORTED", "EXTRA_ROWS_READ"):
        monkeypatch.setattr(claim_queries, name, 20)
    if held_back == "paused":
        queues.pause("other")
    if held_back == "of a full key":
        queued_job(concurrency_key="full", lane=claimed_lane).save()
        assert len(claim_rows(uuid7(), 1)) == 1
        queued_job(concurrency_key="full", lane=claimed_lane, priority=9).save()
    for later in (False, True):
        insert_queued_jobs(BACKLOG // 2, lane=queued_lane, priority=5, later=later)
    lanes = {claimed_lane: 10}
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        claimable = [queued_job(lane=claimed_lane) for _ in range(3)]
        Job.objects.bulk_create(claimable)
        assert rows_read(lambda: candidates.claimable_queues(lanes=lanes)) < MAX_READ[connection.vendor]
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 10, lanes=lanes)

        for _ in range(2):
            assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == claimable
    # A claim for both lanes reads no more of the backlog than it claims.
    both_lanes = {claimed_lane: 10, queued_lane: 2}
    assert rows_read(lambda: claim_rows(uuid7(), 10, lanes=both_lanes)) < MAX_READ[connection.vendor]
    assert Job.objects.filter(lane=queued_lane, state="running").count() == 2


def test_awaited_jobs_are_looked_up(filled_tables):
    """Jobs that others wait for are claimed by their ids and batches, without reading the backlog."""
    insert_queued_jobs(BACKLOG, priority=5)
    queues.pause("held")
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        batch = uuid7()
        awaited = [queued_job(queue_name="default", batch=batch, priority=-number) for number in range(2)]
        awaited.append(queued_job(queue_name="default", later=True, priority=-2))
        for row in awaited:
            row.save()
        claimed, among = [], Q(id__in=[awaited[2].pk]) | Q(batch__in=[batch])

        def claim(claimed=claimed, among=among):
            claimed += claim_rows(uuid7(), 10, among=among)

        assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == awaited


def test_reading_the_backlog_is_detected(filled_tables):
    """rows_read() exceeds the limit if a query reads the whole backlog: otherwise the tests above prove nothing."""
    insert_queued_jobs(BACKLOG)
    whole_backlog = Job.objects.filter(state="queued", run_after=None, title="x").order_by("-priority", "id")
    assert rows_read(lambda: list(whole_backlog)) > MAX_READ[connection.vendor]


def insert_queued_jobs(count, **fields):
    """Insert copies of a queued job by one statement: the ORM takes a second for 10,000 rows."""
    original = queued_job(**fields)
    original.save()
    columns = [field.column for field in Job._meta.concrete_fields if not field.primary_key]
    numbers = NUMBERS[connection.vendor].format(count - 1)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO notifications_job (id, {', '.join(columns)}) {numbers} "
            f"SELECT {ID[connection.vendor]}, {', '.join(columns)} FROM notifications_job, n WHERE id = %s",
            [Job._meta.pk.get_db_prep_value(original.pk, connection)],
        )
    assert Job.objects.filter(state="queued", queue_name=original.queue_name).count() >= count


def queued_job(*, later=False, **fields):
    """Build an unsaved queued job. If ``later``, its delay has ended an hour ago."""
    now = timezone.now()
    return Job(
        task_path="tests.tasks.nothing",
        backend="default",
        title="Work",
        created_at=now,
        queued_at=now,
        run_after=now - timedelta(hours=1) if later else None,
        **{"queue_name": "held", **fields},
    )


def rows_read(work):
    """Return how many rows of jobs ``work()`` reads on PostgreSQL, or how many steps SQLite's virtual machine takes."""
    if connection.vendor == "sqlite":
        steps = []
        connection.connection.set_progress_handler(lambda: steps.append(1), 10)
        try:
            work()
        finally:
            connection.connection.set_progress_handler(None, 10)
        return len(steps) * 10
    row_counts = []

    def measure(execute, sql, params, many, context):
        statement = sql.replace(f"{ISOLATION}; ", "").strip()
        if re.match("SELECT|UPDATE|WITH", statement) and "notifications_job" in statement:
            db = connection.connection
            with db.transaction(force_rollback=True), db.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", params)
                row_counts.append(rows_of(cursor.fetchone()[0][0]["Plan"]))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(measure):
        work()
    assert row_counts
    return sum(row_counts)


def rows_of(plan):
    """Return the number of job rows that an executed plan has read, including those that it filtered out."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    own = sum(plan.get(name, 0) for name in names) * plan["Actual Loops"]
    read = own if plan.get("Relation Name") == "notifications_job" else 0
    return read + sum(rows_of(part) for part in plan.get("Plans", ()))


def test_keys_are_looked_up_by_index(large_tables):
    """Older notifications with the same key are found by the index of keys, however large the inbox is."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_notification SET read_at = NULL")
        cursor.execute("ANALYZE")
    for users in ([500], range(1, 101)):
        for user in users:
            unnumbered(user, 1, key=f"k{user % 50}")
        with CaptureQueriesContext(connection) as queries:
            streams.number(users)
        statements = [query["sql"] for query in queries.captured_queries if " key IN (" in query["sql"]]
        assert statements
        for sql in statements:
            assert "notifications_n_open_key" in explain(sql), explain(sql)


@pytest.mark.django_db(transaction=True)
def test_outcome_looks_up_keys_by_user_without_statistics(django_user_model):
    """Without statistics of rows, recording an outcome looks up keys by user; the planner would read all keys."""
    users = django_user_model.objects.bulk_create([django_user_model(username=f"user{n}") for n in range(50)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for user in users:
        notify(user, "Done", key=f"job:{uuid7()}")
    rows = list(Notification.objects.all())
    with CaptureQueriesContext(connection) as queries, connection.cursor() as cursor:
        cursor.execute(*streams._replaces_unread(rows))
        assert bool(cursor.fetchone()[0])
    plan = explain(queries.captured_queries[0]["sql"])
    assert re.search(r"COALESCE\(user_id, user_id\) = .*\bkey.* = |<expr>=\? AND key=\?", plan), plan


MAX_JOB_PAGES = {"sqlite": 3_000, "postgresql": 60}


@pytest.mark.parametrize("analyzed", [False, True])
def test_jobs_of_a_user_are_read_in_the_order_of_an_index(large_tables, analyzed):
    """Lists of a user's jobs read the rows that they show, of many jobs of the user or of all users."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_job SET user_id = 500 WHERE user_id <= 10")
        if analyzed:
            cursor.execute("ANALYZE")
    position = RowPosition((timezone.now(), uuid7()))
    for rows in (
        NEWEST_FIRST.sort(Job.objects),
        NEWEST_FIRST.after(NEWEST_FIRST.sort(Job.objects), position),
    ):
        with CaptureQueriesContext(connection) as queries:
            assert len(rows.filter(user=500)[:50]) == 50
        (query,) = queries.captured_queries
        plan = explain(query["sql"])
        assert "notifications_job_user" in plan and not re.search("TEMP B-TREE|Sort", plan), plan
        assert pages_read(query["sql"]) < MAX_JOB_PAGES[connection.vendor]


#: Notifications of one user, and the most that a page or a lookup of them may read: PostgreSQL's pages, SQLite's steps.
INBOX_SIZE = 20_000
MAX_READ_PER_PAGE = {"sqlite": 3_000, "postgresql": 60}
MAX_READ_PER_LOOKUP = {"sqlite": 300, "postgresql": 12}


@pytest.fixture
def full_inbox(request, transactional_db):
    """A user whose many notifications were inserted after the last ANALYZE, or without any ANALYZE."""
    table = "notifications_notification"
    notice = {
        "id": ID[connection.vendor],
        "user_id": "500",
        **dict.fromkeys(("seq", "raised"), "i"),
        "counted": "true",
        "level": "'info'",
        "title": "'note'",
        **dict.fromkeys(("category", "body", "url"), "''"),
        "data": "'{}'",
        "key": f"'job:' || {ID[connection.vendor]}",
        "created_at": "'2026-01-01 00:00:00+00:00'" + "::timestamptz" * (connection.vendor == "postgresql"),
    }
    analyzed = getattr(request, "param", "nothing")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            cursor.execute(f"DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass")
        if analyzed == "others":
            for number in range(100):
                notify(number + 1, "Done", key=f"job:{uuid7()}")
        if analyzed != "nothing":
            cursor.execute("ANALYZE")
        numbers = NUMBERS[connection.vendor].format(INBOX_SIZE)
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(notice)}) {numbers} SELECT {', '.join(notice.values())} FROM n"
        )
        cursor.execute(
            "INSERT INTO notifications_stream (user_id, head, floor, unread, guard) VALUES (500, %s, 0, %s, 0)",
            [INBOX_SIZE, INBOX_SIZE],
        )
    yield 500
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


@pytest.mark.parametrize("full_inbox", ["nothing", "an empty table", "others"], indirect=True)
def test_keys_are_looked_up_without_statistics(full_inbox):
    """Recording an outcome reads the notifications with its key, not the inbox of its owner.

    Before the first ANALYZE PostgreSQL assumes that each partial index is nearly empty.
    """
    new = [inbox.build_notification(full_inbox, "Done", key=f"job:{uuid7()}") for _ in range(50)]
    assert pages_read(*streams._replaces_unread(new)) < 50 * MAX_READ_PER_LOOKUP[connection.vendor]
    unnumbered(full_inbox, 1, key=new[0].key)
    with CaptureQueriesContext(connection) as queries:
        streams.number([full_inbox])
    statements = [query["sql"] for query in queries.captured_queries if " key IN (" in query["sql"]]
    assert statements
    assert max(pages_read(sql) for sql in statements) < MAX_READ_PER_LOOKUP[connection.vendor]


@pytest.mark.parametrize("analyzed", [False, True])
def test_late_page_of_the_inbox_reads_no_newer_rows(full_inbox, analyzed):
    """A late page of the inbox reads none of the newer rows. The inbox and the API use the same query."""
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        assert pages.read_inbox_page(full_inbox, INBOX_SIZE, after=1_000).rows[0].raised == 999
    (page,) = [
        query["sql"] for query in queries.captured_queries if "notifications_notification" in query["sql"]
    ]
    assert pages_read(page) < MAX_READ_PER_PAGE[connection.vendor]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("filters", [{"category": "rare"}, {"level": "error"}], ids=str)
def test_rare_notifications_are_searched_in_bounded_steps(full_inbox, analyzed, filters, monkeypatch):
    """A list, or a change, of a category or level that is rare reads a bounded part of the inbox at once."""
    monkeypatch.setattr(listing, "MAX_ROWS_SEARCHED", 100)
    monkeypatch.setattr(marking_filtered, "MAX_ROWS_EXAMINED", 100)
    with connection.cursor() as cursor:
        for raised in (2_050, INBOX_SIZE - 150):
            cursor.execute(
                "UPDATE notifications_notification SET category = 'rare', level = 'error' WHERE raised = %s",
                [raised],
            )
        if analyzed:
            cursor.execute("ANALYZE")
    search, half = listing.Filters(**filters), INBOX_SIZE // 2
    with CaptureQueriesContext(connection) as queries:
        for after, found, next in (
            (None, [], INBOX_SIZE - 99),
            (INBOX_SIZE - 99, [INBOX_SIZE - 150], INBOX_SIZE - 199),
            (half, [], half - 100),
        ):
            page = listing.read_page(full_inbox, 50, head=INBOX_SIZE, after=after, filters=search)
            assert ([row.raised for row in page.rows], page.after) == (found, next)
        for after in (0, half, 2_000):
            end = marking_filtered.mark_filtered(full_inbox, "read", INBOX_SIZE, after=after, **filters)
            assert end == after + 100
    assert Notification.objects.exclude(read_at=None).get().raised == 2_050
    reads = [
        query["sql"]
        for query in queries.captured_queries
        if "SELECT" in query["sql"] and "notifications_notification" in query["sql"]
    ]
    assert len(reads) >= 12
    with transaction.atomic():
        for sql in reads:
            assert pages_read(sql) < MAX_READ_PER_PAGE[connection.vendor], sql


@pytest.mark.parametrize("full_inbox", ["nothing", "an empty table", "others"], indirect=True)
def test_marking_as_seen_does_not_read_what_is_below(full_inbox):
    """Only the unread above the position are counted, not the whole inbox."""
    assert (
        pages_read(count_unseen_sql(), [full_inbox, INBOX_SIZE - 10] * 2)
        < MAX_READ_PER_LOOKUP[connection.vendor]
    )
    mark_seen(full_inbox, INBOX_SIZE - 10)
    assert changes.position(full_inbox).unseen == 10


def test_unarchiving_does_not_read_the_whole_inbox(full_inbox):
    """Unarchiving searches newer rows with the same key, and reads only the rows after it, not the whole inbox."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    last = Notification.objects.get(user=full_inbox, raised=INBOX_SIZE)
    inbox.mark(full_inbox, "archive", INBOX_SIZE, [last.pk])
    with CaptureQueriesContext(connection) as queries:
        inbox.mark(full_inbox, "unarchive", INBOX_SIZE, [last.pk])
    reads = [query["sql"] for query in queries.captured_queries if "SELECT" in query["sql"]]
    assert len([sql for sql in reads if "MAX(" in sql]) == 1
    # Restore the state before unarchiving, so that the measured query finds the row.
    Notification.objects.filter(pk=last.pk).update(archived_at=timezone.now())
    with transaction.atomic():
        assert max(pages_read(sql) for sql in reads if "MAX(" in sql) < MAX_READ_PER_PAGE[connection.vendor]


def pages_read(sql, params=None):
    """Return how many pages a query reads on PostgreSQL, or how many steps SQLite's virtual machine takes."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0][0]["Plan"]
            return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        steps = []
        connection.connection.set_progress_handler(lambda: steps.append(1), 10)
        try:
            cursor.execute(sql, params)
            cursor.fetchall()
        finally:
            connection.connection.set_progress_handler(None, 10)
        return len(steps) * 10


def test_scan_is_detected(large_tables):
    """scans_of() detects a query without an index: otherwise test_no_query_scans proves nothing."""
    for tail in ("WHERE title = 'x'", "WHERE title = 'x' ORDER BY id"):
        for table in ("notifications_notification", "notifications_job"):
            assert scans_of(explain(f"SELECT id FROM {table} {tail}")), (table, tail)


def can_scan(sql):
    return (
        re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)", sql) and "notifications_" in sql and "WHERE 0" not in sql
    )


def explain(sql):
    keyword = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{keyword} {sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def scans_of(plan):
    """Return the lines of a plan that scan a whole table or a whole index of one."""
    if connection.vendor == "sqlite":
        scans = re.findall(rf"SCAN (?:r|notifications_(?!{SMALL_TABLES})\w+)\b.*", plan)
        return [line for line in scans if not re.search(SMALL_INDEXES, line)]
    scans = re.findall(rf"Seq Scan on notifications_(?!{SMALL_TABLES}).*", plan)
    indexed = re.findall(rf"(Index.* Scan.* using (\S+) on notifications_(?!{SMALL_TABLES}).*)\n?(.*)", plan)
    return scans + [
        line for line, name, below in indexed if "Cond:" not in below and not re.search(SMALL_INDEXES, name)
    ]
