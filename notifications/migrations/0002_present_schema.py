from django.db import migrations, models, router
from django.db.transaction import atomic

from notifications.migrations._operations import (
    add_column,
    add_index,
    create_table,
    drop_index,
    exclusively,
    has_column,
    index_state,
    lock_briefly,
    replace_index,
)

#: Streams that one statement updates at most.
MAX_STREAMS_PER_UPDATE = 1_000
#: A stream that was not updated yet. Where nothing is unseen, moving ``seen`` to the head changes no count.
IS_UNSET = "seen = 0 AND unseen = 0 AND head > 0"

#: Indexes, columns and tables of earlier commits.
OBSERVED_INDEX = "notifications_job_observed"
FORMER_INDEXES = (
    *("notifications_n_raised", "notifications_n_unread", "notifications_n_inbox", "notifications_n_key"),
    *("notifications_stream_reading", OBSERVED_INDEX),
)
FORMER_STREAM_COLUMNS = {"read_after": models.BigIntegerField, "read_up_to": models.BigIntegerField}
FORMER_SCHEDULE_COLUMNS = {"announcement": models.TextField, "announcement_text": models.TextField}
MUTED_CATEGORIES = "notifications_mutedcategory"

MOVE_PENDING_READS = """
INSERT INTO notifications_pendingmark (user_id, verb, moment, level, after, up_to)
SELECT user_id, 'read', CURRENT_TIMESTAMP, '', read_after, read_up_to FROM notifications_stream
WHERE read_up_to IS NOT NULL
"""
#: What is muted was kept out of e-mails too.
COPY_MUTED_CATEGORIES = """
INSERT INTO notifications_preference (user_id, category, channel, choice, changed_at, before_mute)
SELECT user_id, category, '{channel}', 'off', created_at, '' FROM notifications_mutedcategory WHERE true
ON CONFLICT DO NOTHING
"""
#: What was stored of observed tasks in columns with another meaning.
MOVES = (
    """
    UPDATE notifications_job
    SET check_at = deadline, missing_since = hand_over_at, deadline = NULL, hand_over_at = NULL
    WHERE state = 'queued' AND lane = 'observed' AND check_at IS NULL AND deadline IS NOT NULL
    """,
    """
    UPDATE notifications_job SET open_until = deadline, deadline = NULL
    WHERE state = 'running' AND worker IS NULL AND open_until IS NULL AND deadline IS NOT NULL
    """,
    *(
        f"""
        UPDATE notifications_job SET expires_at = idempotency_expires_at, broker = idempotency_hash
        WHERE state = '{state}' AND lane = 'observed' AND broker IS NULL AND idempotency_hash <> ''
        """
        for state in ("queued", "running")
    ),
)


def upgrade(apps, schema_editor):
    """Bring a database that earlier commits have migrated, to whichever of their migrations, to the present schema.

    ``0001_streams`` was the first of 31 migrations, and then of 20, so it is recorded there. What is missing is found
    in the database, not in the recorded names: a new database lacks nothing. It may be interrupted anywhere and run
    again: the tables that tell whether rows are to be moved change after the rows.
    """
    db = schema_editor.connection
    app_models = [
        model for model in apps.get_app_config("notifications").get_models() if not model._meta.proxy
    ]
    seen_mark, schedule = (apps.get_model("notifications", name) for name in ("SeenMark", "Schedule"))
    if not router.allow_migrate_model(db.alias, seen_mark):
        return
    with exclusively(schema_editor):
        tables = set(db.introspection.table_names())
        moves_rows = seen_mark._meta.db_table not in tables or MUTED_CATEGORIES in tables
        for model in app_models:
            if model._meta.db_table in tables:
                complete(schema_editor, model)
            elif model._meta.model_name not in ("preference", "seenmark"):
                create_table(schema_editor, model)
        if moves_rows or index_state(schema_editor, OBSERVED_INDEX):
            for sql in MOVES:
                schema_editor.execute(sql)
        if moves_rows:
            replace_muted_categories(schema_editor, apps)
            replace_pending_reads(schema_editor, apps)
            with db.cursor() as cursor:
                set_seen(cursor, skip_locked=db.vendor == "postgresql")
                cursor.execute("UPDATE notifications_delivery SET reason = 'off' WHERE reason = 'muted'")
        for name in FORMER_INDEXES:
            if index_state(schema_editor, name):
                drop_index(schema_editor, name)
        create_table(schema_editor, seen_mark)
        if MUTED_CATEGORIES in tables:
            schema_editor.execute(f"DROP TABLE IF EXISTS {MUTED_CATEGORIES}")
        if any(has_column(schema_editor, schedule, name) for name in FORMER_SCHEDULE_COLUMNS):
            lock_briefly(
                schema_editor, lambda: remove_columns(schema_editor, schedule, FORMER_SCHEDULE_COLUMNS)
            )


def remove_columns(schema_editor, model, fields):
    """Remove the columns of these names that there are, in one transaction."""
    with atomic(schema_editor.connection.alias):
        for name, make in fields.items():
            if has_column(schema_editor, model, name):
                field = make(null=True)
                field.set_attributes_from_name(name)
                schema_editor.remove_field(model, field)


def complete(schema_editor, model):
    """Add the columns and indexes that a table lacks."""
    db = schema_editor.connection
    with db.cursor() as cursor:  # once for each table: Django parses the table's SQL on SQLite
        columns = {
            found.name for found in db.introspection.get_table_description(cursor, model._meta.db_table)
        }
    for field in model._meta.local_concrete_fields:
        if field.column not in columns:
            add_column(schema_editor, model, field)
    with db.cursor() as cursor:
        found = db.introspection.get_constraints(cursor, model._meta.db_table)
    for index in model._meta.indexes:
        fields = [model._meta.get_field(name).column for name, _ in index.fields_orders]
        if index.name in found and not index.expressions and found[index.name]["columns"] != fields:
            replace_index(schema_editor, model, index)
        else:
            add_index(schema_editor, model, index)


def replace_muted_categories(schema_editor, apps):
    """Create the table of preferences with what was muted. Where it exists, users have changed them since."""
    db = schema_editor.connection
    preference = apps.get_model("notifications", "Preference")
    tables = db.introspection.table_names()
    if preference._meta.db_table in tables:
        return
    with atomic(db.alias):
        create_table(schema_editor, preference)
        if MUTED_CATEGORIES in tables:
            for channel in ("bell", "email"):
                schema_editor.execute(COPY_MUTED_CATEGORIES.format(channel=channel))


def replace_pending_reads(schema_editor, apps):
    """Move what is left of inboxes that are being marked as read from the streams to their table."""
    db = schema_editor.connection
    stream = apps.get_model("notifications", "Stream")
    if not has_column(schema_editor, stream, "read_up_to"):
        return
    drop_index(schema_editor, "notifications_stream_reading")

    def move():
        with atomic(db.alias):
            schema_editor.execute(MOVE_PENDING_READS)
            remove_columns(schema_editor, stream, FORMER_STREAM_COLUMNS)

    lock_briefly(schema_editor, move)


def set_seen(cursor, *, skip_locked):
    """Treat everything that users have been notified of as seen, so that no old notification is counted as unseen.

    A few streams at a time, beside writers. Streams that are locked are skipped, and updated afterwards one by one:
    waiting for one of them while holding others would deadlock with numbering.
    """
    clause = " FOR NO KEY UPDATE SKIP LOCKED" if skip_locked else ""
    for condition, bounds in pages(cursor):
        cursor.execute(
            "UPDATE notifications_stream SET seen = head WHERE user_id IN "
            f"(SELECT user_id FROM notifications_stream WHERE {IS_UNSET}{condition}{clause})",
            bounds,
        )
    cursor.execute(f"SELECT user_id FROM notifications_stream WHERE {IS_UNSET}")
    for (user,) in cursor.fetchall():
        cursor.execute(
            f"UPDATE notifications_stream SET seen = head WHERE user_id = %s AND {IS_UNSET}", [user]
        )


def pages(cursor):
    """Yield conditions, with their parameters, that select ``MAX_STREAMS_PER_UPDATE`` streams each by their keys."""
    after = ""
    bounds: list[object] = []
    while True:
        cursor.execute(
            f"SELECT user_id FROM notifications_stream WHERE true{after} ORDER BY user_id "
            f"LIMIT 1 OFFSET {MAX_STREAMS_PER_UPDATE - 1}",
            bounds,
        )
        last = cursor.fetchone()
        if last is None:
            yield after, bounds
            return
        yield f"{after} AND user_id <= %s", [*bounds, *last]
        after, bounds = " AND user_id > %s", list(last)


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [("notifications", "0001_streams")]

    operations = [migrations.RunPython(upgrade, migrations.RunPython.noop)]
