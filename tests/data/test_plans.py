"""No query scans: what is asked often finds its rows by an index, however many others there are."""

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.db.transactions import ISOLATION
from notifications.ids import uuid7
from notifications.jobs.claiming import candidates, claim_queries, queues, stranded
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import manual, outcomes, reaping, recording, running
from notifications.models import Job, Notification, Worker
from notifications.streams import changes, inbox, listing, pages, purging, retention
from tests.data.rows import job, unnumbered
from tests.support.claims import claim_rows

pytestmark = pytest.mark.database_law

#: Users with streams; so many of them have so many notifications and finished jobs each.
STREAMS, USERS, EACH = 20_000, 1_000, 100
#: Partial indexes that hold only what waits or runs. Reading one of them whole is no scan.
SMALL = r"notifications_(n|job)_unnumbered|notifications_job_(ready|delayed|queued|keyed|running)"
#: Tables with a row a process, or one row at all.
FEW = "worker|epoch|queue"

#: How a plan says that jobs for later are looked up by their time.
LOOK_UPS = {
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
def crowded(transactional_db):
    """Many users, each with many notifications and finished jobs. No user row is needed: nothing refers to one."""
    notice = {
        "id": ID[connection.vendor],
        "user_id": f"i % {USERS} + 1",
        "seq": f"2 * (i / {USERS}) + 1",
        "raised": f"2 * (i / {USERS}) + 1",
        "counted": "i % 2 = 0",
        "level": "'info'",
        "category": "''",
        "title": "'note'",
        "body": "''",
        "url": "''",
        "data": "'{}'",
        "key": f"'k' || (i / {USERS})",
        "created_at": "'2026-01-01 00:00:00+00:00'",
        "read_at": "CASE WHEN i % 2 = 1 THEN '2026-01-01 00:00:00+00:00' END",
    }
    if connection.vendor == "postgresql":
        notice["created_at"] += "::timestamptz"
        notice["read_at"] += "::timestamptz"
    job = {
        "id": ID[connection.vendor],
        "user_id": f"i % {USERS} + 1",
        "seq": f"2 * (i / {USERS}) + 2",
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
    stream = {"user_id": "i", "head": str(2 * EACH), "floor": "0", "unread": str(EACH // 2), "guard": "0"}
    with connection.cursor() as cursor:
        for table, columns, count in (
            ("notification", notice, USERS * EACH),
            ("job", job, USERS * EACH),
            ("attempt", attempt, STREAMS),
            ("stream", stream, STREAMS),
            ("ring", {"user_id": "i"}, 5_000),
        ):
            names, values = ", ".join(columns), ", ".join(columns.values())
            numbers = NUMBERS[connection.vendor].format(count)
            cursor.execute(f"INSERT INTO notifications_{table} ({names}) {numbers} SELECT {values} FROM n")
        cursor.execute("ANALYZE")


def number_a_few(user):
    unnumbered(user, 3, key="k2")
    streams.number([user])


def number_many_users(user):
    for one in range(1, 21):
        unnumbered(one, 2, key="k2")
    streams.number(range(1, 201))


def leave_a_few(user):
    unnumbered(user, 3)
    streams.number_pending()


def run_a_job(user):
    for _ in range(3):
        job(user)
    candidates.claimable_queues()
    jobs = claim_rows(uuid7(), 2)
    running.store_progress(jobs)
    recording.record_outcomes([outcomes.succeeded(one, DEFAULT_POLICY, None) for one in jobs])


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


def ask_once(user):
    for _ in range(2):
        for owner in (user, None):
            job(owner, idempotency_key="key", idempotency_hash="hash")


def look_for_lost_jobs(user):
    job(user)
    now = timezone.now()
    alive = Worker.objects.create(
        host="h", process="p", started_at=now, lease_until=now + timedelta(hours=1), concurrency=1
    )
    claim_rows(alive.pk, 1)
    running.read_claims(alive.pk)
    assert reaping.reap_jobs([uuid7()]) == 0


def be_shown_active_jobs(user):
    for _ in range(3):
        job(user)
    changes.read_active_jobs(changes.read_active_versions([user])[user])
    changes.read_active_sums([user])


def wait_in_vain(user):
    job(user)
    Worker.objects.all().delete()
    stranded.warn_of_unserved_jobs()


def unarchive(user):
    inbox.mark(user, "archive", 90, some_ids(user))
    inbox.mark(user, "unarchive", 90)


WAYS = {
    "numbering": number_a_few,
    "numbering many": number_many_users,
    "leftovers": leave_a_few,
    "no leftovers": lambda user: streams.number_pending(),
    "reading": lambda user: inbox.mark(user, "read", 90),
    "reading some": lambda user: inbox.mark(user, "read", 90, some_ids(user)),
    "catch-up": lambda user: changes.read_missed({user: [2 * EACH - 10]}),
    "long catch-up": lambda user: changes.read_missed({user: [-10]}),
    "catch-up of many": lambda user: changes.read_missed({one: [2 * EACH - 2] for one in range(1, 41)}),
    "snapshot": lambda user: changes.read_snapshot(user, 2 * EACH),
    "snapshots": lambda user: changes.read_snapshots({user: 2 * EACH, user + 1: 2 * EACH}),
    "what waits": lambda user: changes.find_unnumbered_users([user]),
    "a page of the inbox": lambda user: pages.read_inbox_page(user, 2 * EACH, 60),
    "the last page of the inbox": lambda user: pages.read_inbox_page(user, 2 * EACH, 4),
    "a page of the archive": lambda user: listing.read_newest(user, 51, head=2 * EACH, archived=True),
    "a page of the unread": lambda user: listing.read_newest(
        user, 51, head=2 * EACH, read=False, category=""
    ),
    "reading none": lambda user: inbox.mark(user, "unread", 90),
    "archiving": lambda user: inbox.mark(user, "archive", 90),
    "unarchiving": unarchive,
    "running a job": run_a_job,
    "losing no worker": look_for_lost_jobs,
    "purging": lambda user: purging.purge(user),
    "active jobs": be_shown_active_jobs,
    "limited jobs": run_limited_jobs,
    "by hand": cancel_and_retry,
    "jobs that wait in vain": wait_in_vain,
    "keys": ask_once,
}


def some_ids(user):
    return list(Notification.objects.filter(user=user).values_list("pk", flat=True)[:3])


def test_no_query_scans(crowded, monkeypatch):
    """Each statement on a table with many rows uses an index."""
    monkeypatch.setattr(changes.Position, "follows", lambda self, cursor: True)
    wrong = {}
    for user, (name, way) in enumerate(WAYS.items(), start=500):
        with CaptureQueriesContext(connection) as queries:
            way(user)
        sent = [sql for query in queries.captured_queries for sql in query["sql"].split("; ")]
        asked = dict.fromkeys(sql for sql in sent if can_scan(sql))
        assert asked, f"{name} has asked nothing."
        wrong |= {f"{name}: {sql[:700]}": scans for sql in asked if (scans := scans_of(explain(sql)))}
    assert not wrong, "\n\n".join(f"{sql}\n    {plan}" for sql, plan in wrong.items())


def test_looking_for_users_that_are_gone_reads_pages(crowded):
    """Some streams at a time, by their key."""
    with CaptureQueriesContext(connection) as queries:
        assert len([user for some in purging.find_deleted_users() for user in some]) == STREAMS
    first, *others = [
        query["sql"] for query in queries.captured_queries if "notifications_stream" in query["sql"]
    ]
    assert "LIMIT" in first
    assert len(others) == STREAMS // purging.MAX_STREAMS_PER_CHUNK
    assert [sql for sql in others if scans_of(explain(sql)) or "LIMIT" not in sql] == []


def test_pruning_sorts_no_backlog(crowded):
    """It chooses the oldest by an index, however many are old: SQLite's lock is held meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_notification SET archived_at = created_at")
        cursor.execute("ANALYZE")
    for model, ended in retention.END_COLUMNS:
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            assert retention._prune_chunk(model, ended, timezone.now()) == retention.MAX_ROWS_PER_TRANSACTION
        asked = [query["sql"] for query in queries.captured_queries if can_scan(query["sql"])]
        assert [scans for sql in asked if (scans := scans_of(explain(sql)))] == []
        (choosing,) = [sql for sql in asked if f"LIMIT {retention.MAX_ROWS_PER_TRANSACTION}" in sql]
        assert not re.search("TEMP B-TREE|Sort", explain(choosing)), explain(choosing)


def test_looking_for_jobs_reads_none_for_later(crowded, django_assert_num_queries):
    """However many there are: a worker looks at each ring."""
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
    for line in LOOK_UPS[connection.vendor]:
        assert re.search(line, explain(query["sql"])), explain(query["sql"])


#: Jobs that wait and may not begin, and what claims may read beside them: rows, or steps of SQLite's machine.
BACKLOG, READ = 10_000, {"sqlite": 40_000, "postgresql": 1_000}


@pytest.mark.parametrize("later", [False, True], ids=["ready", "later"])
@pytest.mark.parametrize("held_back", ["paused", "of another worker", "full", "of a full key"])
def test_a_claim_walks_no_backlog(crowded, settings, monkeypatch, held_back, later):
    """What may not begin is not read; also where the statistics are those of an idle hour."""
    for name in ("MAX_DELAYED_SORTED", "EXTRA_ROWS_READ"):
        monkeypatch.setattr(claim_queries, name, 20)
    key = "key" if held_back == "of a full key" else ""
    if held_back == "full":
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"held": 1}}}}
    queued = [queued_job(concurrency_key=key, priority=5, later=later) for _ in range(BACKLOG + 1)]
    if held_back.split()[-1] in ("full", "key"):
        queued[0].save()
        assert len(claim_rows(uuid7(), 1)) == 1
    Job.objects.bulk_create(queued[1:])
    if held_back == "paused":
        queues.pause("held")
    served = ["default", "other"] if held_back == "of another worker" else []
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        few = [("held" if key else "default", 7), ("other", 3), *[("default", 0)] * 60]
        asked = [queued_job(queue_name=name, priority=priority) for name, priority in few]
        Job.objects.bulk_create(asked)
        assert rows_read(lambda: candidates.claimable_queues(served)) < READ[connection.vendor]
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 100, queues=served)

        assert rows_read(claim) < READ[connection.vendor]
        assert claimed == asked
        assert rows_read(lambda: claim_rows(uuid7(), 10, queues=served)) < READ[connection.vendor]


@pytest.mark.parametrize("held_back", ["nothing", "paused", "of a full key"])
@pytest.mark.parametrize(
    ("waits", "looked_for"), [("sync", "async"), ("async", "sync"), ("suspect", "async")]
)
def test_a_claim_walks_no_other_lane(crowded, monkeypatch, waits, looked_for, held_back):
    """A backlog of sync jobs is not read where async ones are looked for, and the other way round; later ones too."""
    for name in ("MAX_DELAYED_SORTED", "EXTRA_ROWS_READ"):
        monkeypatch.setattr(claim_queries, name, 20)
    if held_back == "paused":
        queues.pause("other")
    if held_back == "of a full key":
        queued_job(concurrency_key="full", lane=looked_for).save()
        assert len(claim_rows(uuid7(), 1)) == 1
        queued_job(concurrency_key="full", lane=looked_for, priority=9).save()
    Job.objects.bulk_create(
        [queued_job(lane=waits, priority=5, later=bool(number % 2)) for number in range(BACKLOG)]
    )
    lanes = {looked_for: 10}
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        asked = [queued_job(lane=looked_for) for _ in range(3)]
        Job.objects.bulk_create(asked)
        assert rows_read(lambda: candidates.claimable_queues(lanes=lanes)) < READ[connection.vendor]
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 10, lanes=lanes)

        for _ in range(2):
            assert rows_read(claim) < READ[connection.vendor]
        assert claimed == asked
    # Both at once, of the backlog no more than may be.
    both = {looked_for: 10, waits: 2}
    assert rows_read(lambda: claim_rows(uuid7(), 10, lanes=both)) < READ[connection.vendor]
    assert Job.objects.filter(lane=waits, state="running").count() == 2


def test_what_others_wait_for_is_looked_up(crowded):
    """By its ids and batches, whatever else waits: nothing of that is read."""
    Job.objects.bulk_create([queued_job(priority=5) for _ in range(BACKLOG)])
    queues.pause("held")
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        batch = uuid7()
        asked = [queued_job(queue_name="default", batch=batch, priority=-number) for number in range(2)]
        asked.append(queued_job(queue_name="default", later=True, priority=-2))
        for row in asked:
            row.save()
        claimed, among = [], Q(id__in=[asked[2].pk]) | Q(batch__in=[batch])

        def claim(claimed=claimed, among=among):
            claimed += claim_rows(uuid7(), 10, among=among)

        assert rows_read(claim) < READ[connection.vendor]
        assert claimed == asked


def test_a_walk_is_seen(crowded):
    """The test above proves nothing unless looking at each of them fails it."""
    Job.objects.bulk_create([queued_job() for _ in range(BACKLOG)])
    walk = Job.objects.filter(state="queued", run_after=None, title="x").order_by("-priority", "id")
    assert rows_read(lambda: list(walk)) > READ[connection.vendor]


def queued_job(*, later=False, **fields):
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
    """What is read by the statements of ``work``: rows of jobs, or on SQLite steps of its machine."""
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
    """The rows of jobs that a plan has read, those that it left out again too."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    own = sum(plan.get(name, 0) for name in names) * plan["Actual Loops"]
    read = own if plan.get("Relation Name") == "notifications_job" else 0
    return read + sum(rows_of(part) for part in plan.get("Plans", ()))


def test_what_has_a_key_is_looked_up_by_it(crowded):
    """Whatever else is in the inboxes: a keyed notification costs the same in a large one."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_notification SET read_at = NULL")
        cursor.execute("ANALYZE")
    for users in ([500], range(1, 101)):
        for user in users:
            unnumbered(user, 1, key=f"k{user % 50}")
        with CaptureQueriesContext(connection) as queries:
            streams.number(users)
        asked = [query["sql"] for query in queries.captured_queries if " key IN (" in query["sql"]]
        assert asked
        for sql in asked:
            assert "notifications_n_open_key" in explain(sql), explain(sql)


@pytest.mark.django_db(transaction=True)
def test_a_finish_looks_up_its_keys_before_anybody_has_counted_the_rows(django_user_model):
    """A planner that knows of no rows would rather read the keys of everybody."""
    users = django_user_model.objects.bulk_create([django_user_model(username=f"user{n}") for n in range(50)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for user in users:
        notify(user, "Told", key=f"job:{uuid7()}")
    told = list(Notification.objects.all())
    with CaptureQueriesContext(connection) as queries, connection.cursor() as cursor:
        cursor.execute(*streams._replaces_unread(told))
        assert bool(cursor.fetchone()[0])
    plan = explain(queries.captured_queries[0]["sql"])
    assert re.search(r"COALESCE\(user_id, user_id\) = .*\bkey.* = |<expr>=\? AND key=\?", plan), plan


#: Notifications of one user, and what a page or a look-up of them may read: pages of PostgreSQL, steps of SQLite.
MANY = 20_000
A_PAGE = {"sqlite": 3_000, "postgresql": 60}
A_LOOK_UP = {"sqlite": 300, "postgresql": 12}


@pytest.fixture
def full_inbox(request, transactional_db):
    """One user with many notifications that came after the last ANALYZE, if there was one."""
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
    counted = getattr(request, "param", "nothing")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            cursor.execute(f"DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass")
        if counted == "others":
            for other in range(100):
                notify(other + 1, "Told", key=f"job:{uuid7()}")
        if counted != "nothing":
            cursor.execute("ANALYZE")
        numbers = NUMBERS[connection.vendor].format(MANY)
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(notice)}) {numbers} SELECT {', '.join(notice.values())} FROM n"
        )
        cursor.execute(
            "INSERT INTO notifications_stream (user_id, head, floor, unread, guard) VALUES (500, %s, 0, %s, 0)",
            [MANY, MANY],
        )
    yield 500
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


@pytest.mark.parametrize("full_inbox", ["nothing", "an empty table", "others"], indirect=True)
def test_keys_are_looked_up_without_statistics(full_inbox):
    """Recording an outcome reads the notifications with its key, not the inbox of its owner.

    Before the first ANALYZE PostgreSQL takes each partial index for one that holds next to nothing.
    """
    new = [inbox.build_notification(full_inbox, "Told", key=f"job:{uuid7()}") for _ in range(50)]
    assert pages_read(*streams._replaces_unread(new)) < 50 * A_LOOK_UP[connection.vendor]
    unnumbered(full_inbox, 1, key=new[0].key)
    with CaptureQueriesContext(connection) as queries:
        streams.number([full_inbox])
    asked = [query["sql"] for query in queries.captured_queries if " key IN (" in query["sql"]]
    assert asked
    assert max(pages_read(sql) for sql in asked) < A_LOOK_UP[connection.vendor]


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_deep_page_costs_as_much_as_the_first(full_inbox, analyzed):
    """What is newer than the page is not read. The inbox and the API read the same way."""
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        assert pages.read_inbox_page(full_inbox, MANY, after=1_000).rows[0].raised == 999
    (page,) = [
        query["sql"] for query in queries.captured_queries if "notifications_notification" in query["sql"]
    ]
    assert pages_read(page) < A_PAGE[connection.vendor]


def test_one_that_was_archived_by_mistake_is_looked_up(full_inbox):
    """Taking it back reads what came after it, and not the whole inbox."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    last = Notification.objects.get(user=full_inbox, raised=MANY)
    inbox.mark(full_inbox, "archive", MANY, [last.pk])
    with CaptureQueriesContext(connection) as queries:
        inbox.mark(full_inbox, "unarchive", MANY, [last.pk])
    reads = [query["sql"] for query in queries.captured_queries if "SELECT" in query["sql"]]
    assert len([sql for sql in reads if "MAX(" in sql]) == 1
    # As it was before the change, or nothing would be found.
    Notification.objects.filter(pk=last.pk).update(archived_at=timezone.now())
    with transaction.atomic():
        assert max(pages_read(sql) for sql in reads if "MAX(" in sql) < A_PAGE[connection.vendor]


def pages_read(sql, params=None):
    """Return how many pages a query reads on PostgreSQL, or how many steps SQLite's machine takes."""
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


def test_a_scan_is_seen(crowded):
    """The test above proves nothing unless a query without an index fails it."""
    for tail in ("WHERE title = 'x'", "WHERE title = 'x' ORDER BY id"):
        for table in ("notifications_notification", "notifications_job"):
            assert scans_of(explain(f"SELECT id FROM {table} {tail}")), (table, tail)


def can_scan(sql):
    return (
        re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)", sql) and "notifications_" in sql and "WHERE 0" not in sql
    )


def explain(sql):
    how = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{how} {sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def scans_of(plan):
    """Lines of a plan that read a table, or an index of a whole table, from one end to the other."""
    if connection.vendor == "sqlite":
        found = re.findall(rf"SCAN (?:r|notifications_(?!{FEW})\w+)\b.*", plan)
        return [line for line in found if not re.search(SMALL, line)]
    found = re.findall(rf"Seq Scan on notifications_(?!{FEW}).*", plan)
    indexed = re.findall(rf"(Index.* Scan.* using (\S+) on notifications_(?!{FEW}).*)\n?(.*)", plan)
    return found + [
        line for line, name, below in indexed if "Cond:" not in below and not re.search(SMALL, name)
    ]
