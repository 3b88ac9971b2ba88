"""Migrations: of databases that earlier commits have migrated, and of an installation with large tables."""

import re
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
from django.db import connection, connections, migrations, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.test.utils import CaptureQueriesContext

from notifications.ids import uuid7
from notifications.migrations import _operations
from notifications.models import Job
from tests.support.waiting import wait_until

FIRST, UPGRADE = "0001_streams", "0002_present_schema"
LATEST = max(path.stem for path in Path(_operations.__file__).parent.glob("0*.py"))
upgrade = import_module(f"notifications.migrations.{UPGRADE}")

#: The statements of each migration of earlier commits, as ``sqlmigrate`` printed them. There were two series of them;
#: the names of the second one begin with "2/" here.
FORMER_SCHEMAS = {
    path.stem: dict(re.findall(r"^-- (\S+)\n((?:(?!-- ).*\n)*)", path.read_text(), re.MULTILINE))
    for path in (Path(__file__).parent / "former_schemas").glob("*.sql")
}
FORMER = list(FORMER_SCHEMAS["sqlite"])
FIRST_SERIES = [name for name in FORMER if not name.startswith("2/")]
SECOND_SERIES = FORMER[len(FIRST_SERIES) :]
#: Names of still earlier ones, whose schema the former ``0001_streams`` had.
EARLIEST = ["0002_engine", "0003_worker_outbound", "0004_job_trace", "0005_ring_origin", "0006_job_queued"]

JOBS_TEXTS = ("progress_message", "url", "language", "trace", "idempotency_key", "idempotency_hash")
FIRST_TIME = "2026-01-01 00:00:00+00:00"


@pytest.fixture(scope="module")
def present_schema(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return schema()


@pytest.fixture
def former(transactional_db, present_schema):
    """former(name) makes the database one that was migrated to this former migration, until the end of the test."""
    yield make_former
    if schema() != present_schema:
        drop_tables()
        migrate(LATEST)
        assert schema() == present_schema


def make_former(last, *, records=None):
    drop_tables()
    series = FIRST_SERIES if last in FIRST_SERIES else SECOND_SERIES
    applied = series[: series.index(last) + 1]
    with transaction.atomic(), connection.cursor() as cursor:
        for name in applied:
            for statement in FORMER_SCHEMAS[connection.vendor][name].splitlines():
                cursor.execute(statement)
    for name in records or applied:
        MigrationRecorder(connection).record_applied("notifications", name.removeprefix("2/"))


def drop_tables():
    with transaction.atomic(), connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith("notifications_"):
                cursor.execute(f"DROP TABLE {table}")
        cursor.execute("DELETE FROM django_migrations WHERE app = 'notifications'")


def schema():
    """Return columns, indexes and, on PostgreSQL, constraints of all tables of the app, by table and name."""
    found = {}
    with connection.cursor() as cursor:
        tables = [
            name for name in connection.introspection.table_names(cursor) if name.startswith("notifications_")
        ]
        for table in tables:
            if connection.vendor == "postgresql":
                for column in connection.introspection.get_table_description(cursor, table):
                    found[table, column.name] = column[1:]
            else:  # Django's introspection parses the SQL of a table.
                cursor.execute(
                    f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{table}')"
                )
                for name, *column in cursor.fetchall():  # Numbers have quotes in an added column only.
                    found[table, name] = [str(value).strip("'") for value in column]
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE tablename ~ '^notifications_' UNION ALL "
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                "WHERE conrelid::regclass::text ~ '^notifications_' AND contype <> 'n' UNION ALL "
                "SELECT '', relname, 'invalid' FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid"
            )
        else:
            cursor.execute(
                "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'notifications_%'"
            )
        return found | {(table, name, "definition"): sql for table, name, sql in cursor.fetchall()}


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])


def insert(table, **row):
    with connection.cursor() as cursor:
        placeholders = ", ".join(["%s"] * len(row))
        cursor.execute(
            f"INSERT INTO notifications_{table} ({', '.join(row)}) VALUES ({placeholders})",
            list(row.values()),
        )


def select(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def new_id():
    return uuid7() if connection.vendor == "postgresql" else uuid7().hex


@pytest.mark.parametrize("last", FORMER)
def test_a_database_of_each_former_migration_gets_the_present_schema(former, present_schema, last):
    former(last)
    migrate(LATEST)
    assert schema() == present_schema


def test_a_database_with_the_earliest_names_gets_the_present_schema(former, present_schema):
    former(FIRST, records=[FIRST, *EARLIEST])
    migrate(LATEST)
    assert schema() == present_schema


def test_no_migration_has_the_name_of_a_former_one():
    """It would be skipped in databases that have recorded that name."""
    names = {name for app, name in MigrationLoader(None).disk_migrations if app == "notifications"}
    former = {name.removeprefix("2/") for name in FORMER}
    assert FIRST in names and not (names - {FIRST}) & {*former, *EARLIEST}


def test_both_databases_have_fixtures_of_all_former_migrations():
    assert (len(FIRST_SERIES), len(SECOND_SERIES)) == (31, 20)
    assert list(FORMER_SCHEMAS["postgresql"]) == FORMER


def test_a_new_database_is_not_changed(transactional_db):
    MigrationRecorder(connection).record_unapplied("notifications", UPGRADE)
    with CaptureQueriesContext(connection) as queries:
        MigrationExecutor(connection).migrate([("notifications", UPGRADE)])
    migrate(LATEST)
    statements = [query["sql"] for query in queries if "django_migrations" not in query["sql"]]
    assert not [sql for sql in statements if sql.startswith(("ALTER", "CREATE", "DROP", "UPDATE", "INSERT"))]


def test_what_was_notified_before_positions_were_stored_is_seen(former, monkeypatch):
    """In all databases, in chunks, also where the last chunk is full."""
    monkeypatch.setattr(upgrade, "MAX_STREAMS_PER_UPDATE", 2)
    former("0011_broadcasts")
    for user in range(1, 5):
        insert("stream", user_id=user, head=user - 1, floor=0, unread=0, guard=0)
    migrate(LATEST)
    rows = select("SELECT user_id, seen, unseen FROM notifications_stream ORDER BY user_id")
    assert rows == [(1, 0, 0), (2, 1, 0), (3, 2, 0), (4, 3, 0)]


def test_streams_with_unseen_notifications_keep_their_position(former):
    former(FIRST_SERIES[-1])
    insert("stream", user_id=1, head=9, floor=0, unread=5, guard=0, seen=0, unseen=5)
    insert("stream", user_id=2, head=9, floor=0, unread=5, guard=0, seen=4, unseen=1)
    migrate(LATEST)
    assert select("SELECT seen, unseen FROM notifications_stream ORDER BY user_id") == [(0, 5), (4, 1)]


def test_inboxes_that_are_being_marked_as_read_are_marked_further(former):
    former("0013_jobs_of_user")
    for user, after, up_to in ((1, 3, 8), (2, None, None)):
        insert("stream", user_id=user, head=9, floor=0, unread=0, guard=0, read_after=after, read_up_to=up_to)
    migrate(LATEST)
    columns = "user_id, verb, category, level, after, up_to"
    assert select(f"SELECT {columns} FROM notifications_pendingmark") == [(1, "read", None, "", 3, 8)]


def test_muted_categories_become_preferences(former):
    former("0022_deliveries")
    insert("mutedcategory", user_id=1, category="news", created_at=FIRST_TIME)
    insert(
        "delivery",
        id=new_id(),
        notification=new_id(),
        channel="email",
        address="",
        language="",
        state="skipped",
        reason="muted",
        error="",
        due_at=FIRST_TIME,
        user_id=1,
    )
    migrate(LATEST)
    rows = select("SELECT user_id, category, channel, choice FROM notifications_preference ORDER BY channel")
    assert rows == [(1, "news", "bell", "off"), (1, "news", "email", "off")]
    assert select("SELECT reason FROM notifications_delivery") == [("off",)]


def test_categories_that_are_not_muted_any_more_stay_so(former):
    """Where preferences exist, muted categories were copied before."""
    former("0023_preferences")
    insert("mutedcategory", user_id=1, category="news", created_at=FIRST_TIME)
    migrate(LATEST)
    assert select("SELECT * FROM notifications_preference") == []


def insert_job(**columns):
    row = {
        "id": new_id(),
        **dict.fromkeys(("version", "fence", "attempt", "max_attempts", "priority"), 1),
        **dict.fromkeys(("task_path", "args", "kwargs", "backend", "queue_name", "title", "state"), "queued"),
        **dict.fromkeys((*JOBS_TEXTS, "concurrency_key"), ""),
        **dict.fromkeys(("created_at", "queued_at"), FIRST_TIME),
        "cancelled_by_other": False,
    }
    insert("job", **row | columns)


def test_jobs_of_earlier_commits_have_a_lane(former):
    former(FIRST)
    insert_job()
    migrate(LATEST)
    assert select("SELECT lane FROM notifications_job") == [("sync",)]


@pytest.mark.parametrize("last", ["0004_observed_jobs", FIRST_SERIES[-1], "2/0004_waits"])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"lane": "observed", "deadline": 1, "hand_over_at": 2, "idempotency_hash": "amqp"},
            {"check_at": 1, "missing_since": 2, "broker": "amqp"},
        ),
        (
            *({"lane": "observed", "idempotency_expires_at": 3, "idempotency_hash": "amqp"},),
            {"expires_at": 3, "broker": "amqp"},
        ),
        ({"lane": "observed", "state": "running", "deadline": 1}, {"open_until": 1}),
        (
            {"lane": "async", "idempotency_expires_at": 3, "idempotency_hash": "k"},
            {"idempotency_expires_at": 3},
        ),
        ({"lane": "handed", "hand_over_at": 2}, {"hand_over_at": 2}),
        (
            {"lane": "async", "state": "running", "worker": new_id, "deadline": 1},
            {"deadline": 1},
        ),
    ],
)
def test_times_of_earlier_commits_are_in_columns_of_their_own(former, last, columns, expected):
    times = {number: f"2026-01-0{number} 00:00:00+00:00" for number in (1, 2, 3)}
    former(last)
    insert_job(
        **{name: value() if callable(value) else times.get(value, value) for name, value in columns.items()}
    )
    migrate(LATEST)
    names = ("check_at", "missing_since", "open_until", "expires_at", "broker", "deadline", "hand_over_at")
    if columns["lane"] != "observed":
        names += ("idempotency_expires_at",)
    [row] = select(f"SELECT {', '.join(names)} FROM notifications_job")
    found = {name: str(value)[:10] for name, value in zip(names, row, strict=True) if value is not None}
    assert found == {name: times.get(value, value)[:10] for name, value in expected.items()}


@pytest.mark.parametrize(
    "step", ["add_column", "create_table", "add_index", "replace_index", "replace_pending_reads", "set_seen"]
)
def test_an_interrupted_upgrade_can_be_run_again(former, present_schema, monkeypatch, step):
    """What exists already is no error, and what is missing is made."""
    former(FIRST)
    original, calls = getattr(upgrade, step), []

    def interrupted(*args, **options):
        original(*args, **options)
        calls.append(args)
        if len(calls) == 2 or step in ("replace_pending_reads", "set_seen"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(upgrade, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            migrate(LATEST)
    assert schema() != present_schema
    migrate(LATEST)
    assert schema() == present_schema


def test_two_processes_migrate_concurrently(former, present_schema, monkeypatch):
    """Two processes that migrate concurrently do not drop each other's indexes, and all indexes exist afterwards."""
    monkeypatch.setattr(_operations, "POLL_INTERVAL_SECONDS", 0.01)
    former(FIRST)

    def migrate_and_close():
        try:
            migrate(LATEST)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        for migration in [threads.submit(migrate_and_close) for _ in range(2)]:
            migration.result(60)
    assert schema() == present_schema


def test_indexes_of_large_tables_are_created_concurrently(on_postgresql, former):
    """Indexes of tables in use are created and dropped without blocking writers, and replaced before that."""
    former(FIRST)
    with CaptureQueriesContext(connection) as queries:
        migrate(UPGRADE)
    lines = [query["sql"] for query in queries if "INDEX" in query["sql"]]
    tables = '"notifications_(job|notification|attempt|stream)" '
    created = [line for line in lines if line.startswith("CREATE INDEX") and re.search(f"ON {tables}", line)]
    assert len(created) >= 16
    assert all(line.startswith("CREATE INDEX CONCURRENTLY") for line in created)
    assert all(line.startswith("DROP INDEX CONCURRENTLY") for line in lines if line.startswith("DROP"))
    ready = [line for line in lines if '"notifications_job_ready' in line]
    assert [line.split()[0] for line in ready] == ["DROP", "CREATE", "DROP", "ALTER"]


def test_columns_are_added_without_a_copy_of_the_table(former):
    """Those of jobs: neither database writes to their rows."""
    former(FIRST)
    with CaptureQueriesContext(connection) as queries:
        migrate(UPGRADE)
    statements = [query["sql"] for query in queries if '"notifications_job"' in query["sql"]]
    assert sum(sql.startswith('ALTER TABLE "notifications_job" ADD COLUMN') for sql in statements) == 14
    assert not [sql for sql in statements if sql.startswith(("CREATE TABLE", "UPDATE", "INSERT"))]


def test_migrations_lock_tables_briefly():
    """All that add columns or indexes use operations of the app, outside a transaction that would keep their locks."""
    plain = (migrations.AddField, migrations.AddIndex, migrations.RemoveIndex, migrations.CreateModel)
    loader = MigrationLoader(None)
    for (app, name), migration in loader.disk_migrations.items():
        if app == "notifications" and name != FIRST:
            assert not [operation for operation in migration.operations if type(operation) in plain], name
            assert not migration.atomic or not [op for op in migration.operations if isinstance(op, plain)], (
                name
            )


def test_operations_can_be_repeated_and_reversed(transactional_db):
    """A migration that was interrupted, forwards or backwards, is run again: what is done already is no error."""
    index = models.Index(fields=["title"], name="notifications_test_index")
    operations = [
        _operations.CreateModel("Made", [("id", models.BigAutoField(primary_key=True))]),
        _operations.AddField("made", "title", models.CharField(max_length=9, db_default="", default="")),
        _operations.AddIndex("made", index),
        _operations.RemoveIndex("made", index.name),
    ]
    states = [ProjectState()]
    for operation in operations:
        states.append(states[-1].clone())
        operation.state_forwards("notifications", states[-1])

    def names():
        return {name for name in schema() if "notifications_made" in name}

    def run(number, method):
        with connection.schema_editor(atomic=False) as editor:
            pair = states[number : number + 2]
            if method == "database_backwards":
                pair.reverse()
            getattr(operations[number], method)("notifications", editor, *pair)

    try:
        found = []
        for number in range(4):
            for _ in range(2):
                run(number, "database_forwards")
                found.append(names())
        assert found[0::2] == found[1::2]
        created, column, with_index, without = found[0::2]
        assert created < column < with_index and without == column
        run(3, "database_backwards")
        assert names() == with_index
        for _ in range(2):
            run(2, "database_backwards")
            assert names() == column
        run(1, "database_backwards")
        assert names() == created
    finally:
        run(0, "database_backwards")
    assert not names()


def test_a_locked_table_is_tried_again(on_postgresql, former, present_schema, monkeypatch, caplog):
    """Behind a long reader the ALTER TABLE gives up, so that those behind it can read, and is made later."""
    monkeypatch.setattr(_operations, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(_operations, "LOCK_PAUSE_SECONDS", 0.2)
    former(FIRST)

    def migrate_in_thread():
        try:
            migrate(LATEST)
        finally:
            connections.close_all()

    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            Job.objects.values_list("id").first()
            migrated = pool.submit(migrate_in_thread)
            wait_until(lambda: caplog.text.count("is tried again") >= 2, timeout=60, what="two tries")
            assert not migrated.done()
        migrated.result(60)
    assert schema() == present_schema


def test_an_index_with_interrupted_build_is_built_again(on_postgresql, former, present_schema):
    """An index whose build was interrupted, which PostgreSQL keeps as invalid and unused, is built again."""
    former(FIRST)
    name = "notifications_n_inbox_unread"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX {name} ON notifications_notification (title)")
        cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    migrate(LATEST)
    assert schema() == present_schema
