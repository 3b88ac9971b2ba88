"""Query plans: lists of notifications and jobs, marking and keys read few rows of a large inbox."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.db import user_to_db
from notifications.inbox import read_numbered_position
from notifications.models import Job, Notification, Stream, uuid7
from notifications.streams import build_notification, marking
from notifications.streams.marking_seen import mark_seen
from tests.data.plans import ID, NUMBERS, explain, pages_read
from tests.data.rows import unnumbered

pytestmark = pytest.mark.database_law


@pytest.mark.tables("notification", "stream")
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
    rows = Notification.objects.bulk_create(
        build_notification(user.pk, "Done", key=f"job:{uuid7()}") for user in users for _ in range(100)
    )
    keys = [(user_to_db(row.user_id), row.key) for row in rows[::100]]
    with CaptureQueriesContext(connection) as queries, connection.cursor() as cursor:
        cursor.execute(*streams._find_unread(keys))
        assert cursor.fetchone()
    plan = explain(queries.captured_queries[0]["sql"])
    assert re.search(
        r"Index Cond: .*key.* = .*COALESCE\(user_id, user_id\) = |\(key=\? AND <expr>=\?", plan
    ), plan


@pytest.mark.tables("notification", "stream")
def test_the_notification_of_the_end_of_a_job(large_tables, client):
    """It is looked for near the position of its job, not in a whole inbox."""
    times = dict.fromkeys(("created_at", "queued_at", "finished_at"), timezone.now())
    names = dict.fromkeys(("task_path", "backend", "queue_name"), "t")
    job = Job.objects.create(user_id=500, seq=100_000, state="succeeded", title="Work", **times, **names)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(reverse("notifications:job", args=[job.pk])).status_code == 200
    [sql] = [query["sql"] for query in queries if re.search(r'"raised" BETWEEN', query["sql"])]
    plan = explain(sql)
    assert plan.count("notifications_n_") == 4 and "notifications_n_seq" not in plan, plan


MAX_JOB_PAGES = {"sqlite": 3_000, "postgresql": 60}


@pytest.mark.tables("job")
@pytest.mark.parametrize("analyzed", [False, True])
def test_jobs_of_a_user_are_read_in_the_order_of_an_index(filled_tables, client, analyzed):
    """Lists of a user's jobs read the rows that they show, of many jobs of the user or of all users."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_job SET user_id = 500 WHERE user_id <= 10")
        if analyzed:
            cursor.execute("ANALYZE")
    for position in ({}, {"after": uuid7()}):
        with CaptureQueriesContext(connection) as queries:
            page = get(client, "api-jobs", limit=50, **position).json()
        assert len(page["items"]) == 50
        *_, sql = [
            query["sql"] for query in queries.captured_queries if 'FROM "notifications_job"' in query["sql"]
        ]
        plan = explain(sql)
        assert "notifications_job_user" in plan and not re.search("TEMP B-TREE|Sort", plan), plan
        assert pages_read(sql) < MAX_JOB_PAGES[connection.vendor]


#: Notifications of one user, and the most that a page or a lookup of them may read: PostgreSQL's pages, SQLite's steps.
INBOX_SIZE = 20_000
MAX_READ_PER_PAGE = {"sqlite": 3_000, "postgresql": 60}
MAX_READ_PER_LOOKUP = {"sqlite": 300, "postgresql": 12}
#: The most that is read to find the rows of a page with groups, and to count these; PostgreSQL's with versions of rows
#: that an UPDATE has left.
MAX_READ_PER_SCAN = {"sqlite": 20_000, "postgresql": 60}
MAX_READ_PER_COUNT = {"sqlite": 80_000, "postgresql": 2_000}


@pytest.fixture
def client(client_of, transactional_db):
    """A client in which the user is signed in who has the rows of these tests."""
    return client_of(get_user_model().objects.create(pk=500, username="ada"))


def get(client, name, **query):
    response = client.get(reverse(f"notifications:{name}"), query)
    assert response.status_code == 200, response.content
    return response


def statements_of_page(queries):
    """Return those that look for the rows of a page of the inbox, without those of counts and categories."""
    statements = [query["sql"] for query in queries.captured_queries]
    return [
        sql
        for sql in statements
        if "notifications_notification" in sql and "notifications_inboxviews" not in sql
    ]


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
            # Rows that an earlier test has deleted are still in the indexes, and a count of pages would include theirs.
            cursor.execute(f"TRUNCATE {table} CASCADE")
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
    new = [build_notification(full_inbox, "Done", key=f"job:{uuid7()}") for _ in range(50)]
    keys = [(user_to_db(row.user_id), row.key) for row in new]
    assert pages_read(*streams._find_unread(keys)) < 50 * MAX_READ_PER_LOOKUP[connection.vendor]
    unnumbered(full_inbox, 1, key=new[0].key)
    with CaptureQueriesContext(connection) as queries:
        streams.number([full_inbox])
    statements = [query["sql"] for query in queries.captured_queries if " key IN (" in query["sql"]]
    assert statements
    assert max(pages_read(sql) for sql in statements) < MAX_READ_PER_LOOKUP[connection.vendor]


@pytest.mark.parametrize("analyzed", [False, True])
def test_late_page_of_the_inbox_reads_no_newer_rows(full_inbox, client, analyzed):
    """A late page of the inbox reads none of the newer rows. The inbox and the API use the same query."""
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        assert get(client, "inbox", after=1_000).context["page"].rows[0].raised == 999
    scan, rows = statements_of_page(queries)
    assert pages_read(scan) < MAX_READ_PER_SCAN[connection.vendor]
    assert pages_read(rows) < MAX_READ_PER_PAGE[connection.vendor]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("is_read", [False, True])
def test_page_with_groups_reads_a_bounded_part_of_the_inbox(full_inbox, client, analyzed, is_read):
    """Each query of a page does, also if all that the inbox has is in one group, or in groups of two."""
    table = "notifications_notification"
    with connection.cursor() as cursor:
        read_at = "created_at" if is_read else "NULL"
        key = f"CASE WHEN raised > {INBOX_SIZE // 2} THEN 'n:' || (raised / 2) ELSE 'n:large' END"
        # The worst one of a group is another one than its newest.
        level = f"CASE WHEN raised IN ({INBOX_SIZE // 2 - 1}, {INBOX_SIZE - 2}) THEN 'error' ELSE 'info' END"
        cursor.execute(f"UPDATE {table} SET group_key = {key}, read_at = {read_at}, level = {level}")
        if analyzed:
            cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        get(client, "inbox")
        page = get(client, "inbox", after=INBOX_SIZE // 2 + 1).context["page"]
        assert [(group.key, group.total) for group in page.listed.groups.values()] == [("n:large", 1_000)]
        assert len(get(client, "inbox", after=100, group="n:large").context["page"].rows) == 25
    for sql in (query["sql"] for query in queries.captured_queries if table in query["sql"]):
        assert pages_read(sql) < MAX_READ_PER_COUNT[connection.vendor], explain(sql)


@pytest.mark.parametrize("analyzed", [False, True])
def test_open_questions_are_found_by_their_index(full_inbox, client, analyzed):
    """Without reading the rows between them, and counted so too."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE notifications_notification SET open_question = id, read_at = NULL, archived_at = NULL "
            "WHERE raised IN (7, 2050)"
        )
        if analyzed:
            cursor.execute("ANALYZE")
    read_numbered_position(0)  # the first call makes it
    with CaptureQueriesContext(connection) as queries:
        page = get(client, "api-notifications", unread=1, questions=1).json()
    assert (len(page["items"]), page["next"], page["questions"]) == (2, None, 2)
    reads = [
        query["sql"] for query in queries.captured_queries if "notifications_notification" in query["sql"]
    ]
    assert len(reads) == 2
    with transaction.atomic():
        for sql in reads:
            assert pages_read(sql) < MAX_READ_PER_PAGE[connection.vendor], sql


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("filters", [{"category": "rare"}, {"level": "error"}], ids=str)
def test_rare_notifications_are_searched_in_bounded_steps(
    full_inbox, client, analyzed, filters, set_marking, set_bounds
):
    """A list, or a change, of a category or level that is rare reads a bounded part of the inbox at once."""
    set_bounds(searched=100)
    set_marking(MAX_ROWS_EXAMINED=100)
    with connection.cursor() as cursor:
        for raised in (2_050, INBOX_SIZE - 150):
            cursor.execute(
                "UPDATE notifications_notification SET category = 'rare', level = 'error' WHERE raised = %s",
                [raised],
            )
        if analyzed:
            cursor.execute("ANALYZE")
    half = INBOX_SIZE // 2
    with CaptureQueriesContext(connection) as queries:
        for after, found, next in (
            (None, [], INBOX_SIZE - 99),
            (INBOX_SIZE - 99, [INBOX_SIZE - 150], INBOX_SIZE - 199),
            (half, [], half - 100),
        ):
            page = get(client, "api-notifications", limit=50, after=after or INBOX_SIZE + 1, **filters).json()
            assert ([item["raised"] for item in page["items"]], page["next"]) == (found, next)
        for after in (0, half, 2_000):
            body = {"up_to": INBOX_SIZE, "after": after, **filters}
            path = reverse("notifications:api-notifications-read")
            assert client.post(path, body, content_type="application/json").json()["next"] == after + 100
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
    with CaptureQueriesContext(connection) as queries:
        mark_seen(full_inbox, INBOX_SIZE - 10)
    [update] = [query["sql"] for query in queries if "AND counted AND" in query["sql"]]
    [count] = re.findall(r"\(SELECT count.*? AND counted AND \(.*?\)\) \+ \(SELECT count.*?\)\)", update)
    assert pages_read(f"SELECT {count}") < MAX_READ_PER_LOOKUP[connection.vendor]
    assert Stream.objects.get(pk=full_inbox).unseen == 10


@pytest.mark.parametrize("full_inbox", ["nothing", "an empty table", "others"], indirect=True)
def test_marking_by_ids_reads_only_these(full_inbox):
    """The primary key finds them, although an index of the user has them in order."""
    rows = Notification.objects.filter(user=full_inbox, raised__in=[1, 9_000, 19_000])
    ids = list(rows.values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as queries:
        assert set(marking.mark(full_inbox, "read", INBOX_SIZE, ids).changed) == set(ids)
    reads = [query["sql"] for query in queries.captured_queries if '"raised"' in query["sql"]]
    assert len(reads) == 2
    with transaction.atomic():
        assert max(pages_read(sql) for sql in reads) < 3 * MAX_READ_PER_LOOKUP[connection.vendor]


def test_unarchiving_does_not_read_the_whole_inbox(full_inbox):
    """Unarchiving searches newer rows with the same key, and reads only the rows after it, not the whole inbox."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    last = Notification.objects.get(user=full_inbox, raised=INBOX_SIZE)
    marking.mark(full_inbox, "archive", INBOX_SIZE, [last.pk])
    with CaptureQueriesContext(connection) as queries:
        marking.mark(full_inbox, "unarchive", INBOX_SIZE, [last.pk])
    reads = [query["sql"] for query in queries.captured_queries if "SELECT" in query["sql"]]
    assert len([sql for sql in reads if "MAX(" in sql]) == 1
    # Restore the state before unarchiving, so that the measured query finds the row.
    Notification.objects.filter(pk=last.pk).update(archived_at=timezone.now())
    with transaction.atomic():
        assert max(pages_read(sql) for sql in reads if "MAX(" in sql) < MAX_READ_PER_PAGE[connection.vendor]
