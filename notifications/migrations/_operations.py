"""Operations for tables that are in use: beside writers, again after an interruption, and by several processes at once.

Each makes only what is missing. Django's own AddIndexConcurrently needs psycopg also on SQLite.
"""

import logging
import time
from contextlib import contextmanager

from django.db import OperationalError, migrations
from django.db.transaction import atomic

logger = logging.getLogger("notifications")

#: Number of the advisory lock that an operation holds on PostgreSQL.
ADVISORY_LOCK = 7_214_550_902
POLL_INTERVAL_SECONDS = 0.1
POLLS_BETWEEN_LOGS = 100
#: For how long a statement waits for a lock on a whole table on PostgreSQL. All others wait behind it meanwhile.
LOCK_TIMEOUT = "2s"
#: Tries to lock a table, and seconds between two, in which those that have waited go on.
MAX_LOCK_TRIES, LOCK_PAUSE_SECONDS = 100, 1.0
LOCK_NOT_AVAILABLE = "55P03"


class CreateModel(migrations.CreateModel):
    """Create a table with its indexes, unless it exists."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            with exclusively(schema_editor):
                create_table(schema_editor, model)


class AddField(migrations.AddField):
    """Add a field, on SQLite without a copy of the table if it has a default in the database.

    On PostgreSQL it locks the table for a moment, for which it waits briefly and repeatedly.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            with exclusively(schema_editor):
                add_column(schema_editor, model, model._meta.get_field(self.name))

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        remove = super().database_backwards
        lock_briefly(schema_editor, lambda: remove(app_label, schema_editor, from_state, to_state))


class AlterField(migrations.AlterField):
    """Alter a field. PostgreSQL locks the table for a moment, for which it waits briefly and repeatedly."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        alter = super().database_forwards
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            with exclusively(schema_editor):
                lock_briefly(schema_editor, lambda: alter(app_label, schema_editor, from_state, to_state))


class AddIndex(migrations.AddIndex):
    """Add an index, on PostgreSQL without a lock that writers wait for.

    An index that exists is never dropped to be made again, because queries of running workers name it.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            with exclusively(schema_editor):
                add_index(schema_editor, model, self.index)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            drop_index(schema_editor, self.index.name)


class RemoveIndex(migrations.RemoveIndex):
    """Drop an index, on PostgreSQL without a lock that writers wait for."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            drop_index(schema_editor, self.name)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            index = to_state.models[app_label, self.model_name_lower].get_index_by_name(self.name)
            with exclusively(schema_editor):
                add_index(schema_editor, model, index)


@contextmanager
def exclusively(schema_editor):
    """Have other processes that migrate wait: two at once would drop each other's unfinished index.

    On PostgreSQL by an advisory lock of the connection, on SQLite by a transaction.
    """
    db = schema_editor.connection
    if schema_editor.collect_sql or db.in_atomic_block:
        yield
    elif db.vendor == "sqlite":
        with atomic(db.alias):
            # A transaction that read first would fail instead of waiting for the lock.
            schema_editor.execute("DELETE FROM notifications_stream WHERE 0")
            yield
    else:
        # Not pg_advisory_lock(): a waiting statement keeps its snapshot, for which CREATE INDEX CONCURRENTLY of the
        # process that holds the lock would wait.
        polls = 0
        while not advisory_lock(db, "pg_try_advisory_lock"):
            polls += 1
            if polls % POLLS_BETWEEN_LOGS == 0:
                logger.warning(
                    "Waiting for another process that migrates database %s. Through a pooler in transaction mode "
                    "migrate cannot run: connect to PostgreSQL itself.",
                    db.alias,
                )
            time.sleep(POLL_INTERVAL_SECONDS)
        try:
            yield
        finally:
            if db.is_usable():
                advisory_lock(db, "pg_advisory_unlock")


def lock_briefly(schema_editor, alter):
    """Run statements that lock a whole table. On PostgreSQL they are given up after 2 s, and tried again.

    A statement that waits for an ACCESS EXCLUSIVE lock, behind a report that reads the table for an hour for example,
    stops all readers and writers that come after it.
    """
    db = schema_editor.connection
    if schema_editor.collect_sql or db.vendor != "postgresql":
        alter()
        return
    for tries_left in reversed(range(MAX_LOCK_TRIES)):
        try:
            with atomic(db.alias):
                schema_editor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                alter()
            return
        except OperationalError as exc:
            if not tries_left or getattr(exc.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            logger.warning(
                "Another transaction holds a table that is to be changed, which is tried again: %s", exc
            )
        time.sleep(LOCK_PAUSE_SECONDS)


def advisory_lock(db, function):
    with db.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", [ADVISORY_LOCK])
        return cursor.fetchone()[0]


def create_table(schema_editor, model):
    db = schema_editor.connection
    with atomic(db.alias):
        if schema_editor.collect_sql or model._meta.db_table not in db.introspection.table_names():
            schema_editor.create_model(model)
            # Django makes indexes at the end of the migration, before which it may be interrupted.
            while schema_editor.deferred_sql:
                schema_editor.execute(schema_editor.deferred_sql.pop(0))


def add_column(schema_editor, model, field):
    db = schema_editor.connection
    if has_column(schema_editor, model, field.column):
        return
    if db.vendor == "sqlite" and field.has_db_default():
        # Django copies the table for each column that is NOT NULL, which SQLite does not need.
        quote = schema_editor.quote_name
        schema_editor.execute(
            f"ALTER TABLE {quote(model._meta.db_table)} ADD COLUMN {quote(field.column)} {field.db_type(db)} "
            f"DEFAULT '{field.db_default}' NOT NULL"
        )
    else:
        lock_briefly(schema_editor, lambda: schema_editor.add_field(model, field))


def has_column(schema_editor, model, column):
    if schema_editor.collect_sql:  # sqlmigrate prints the statements for a new database
        return False
    db = schema_editor.connection
    with db.cursor() as cursor:
        columns = db.introspection.get_table_description(cursor, model._meta.db_table)
    return column in [found.name for found in columns]


def has_fields(schema_editor, model, index):
    """Return whether the index of this name has these fields, in this order."""
    db = schema_editor.connection
    with db.cursor() as cursor:
        found = db.introspection.get_constraints(cursor, model._meta.db_table)
    return found[index.name]["columns"] == [
        model._meta.get_field(name).column for name, _ in index.fields_orders
    ]


def add_index(schema_editor, model, index):
    state = index_state(schema_editor, index.name)
    if state == "invalid":
        drop_index(schema_editor, index.name)
    if state != "valid":
        options = {"concurrently": True} if concurrently(schema_editor) else {}
        schema_editor.add_index(model, index, **options)


def replace_index(schema_editor, model, index):
    if index_state(schema_editor, index.name) == "valid" and has_fields(schema_editor, model, index):
        return
    if schema_editor.connection.vendor == "sqlite":
        drop_index(schema_editor, index.name)
        schema_editor.add_index(model, index)
        return
    new_index = index.clone()
    new_index.name += "_new"
    drop_index(schema_editor, new_index.name)  # what an interrupted migration has left
    add_index(schema_editor, model, new_index)
    drop_index(schema_editor, index.name)
    lock_briefly(schema_editor, lambda: schema_editor.rename_index(model, new_index, index))


def drop_index(schema_editor, name):
    schema_editor.execute(
        f"DROP INDEX {concurrently(schema_editor)}IF EXISTS {schema_editor.quote_name(name)}"
    )


def index_state(schema_editor, name):
    """Return "valid", "invalid" or, where there is no such index, None.

    PostgreSQL keeps an index whose build was interrupted, as invalid, and no query uses it.
    """
    if schema_editor.collect_sql:
        return None
    if schema_editor.connection.vendor == "postgresql":
        sql = (
            "SELECT CASE WHEN indisvalid THEN 'valid' ELSE 'invalid' END FROM pg_index "
            "JOIN pg_class ON pg_class.oid = indexrelid WHERE relname = %s AND pg_table_is_visible(indexrelid)"
        )
    else:
        sql = "SELECT 'valid' FROM sqlite_master WHERE type = 'index' AND name = %s"
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(sql, [name])
        row = cursor.fetchone()
    return row and row[0]


def concurrently(schema_editor):
    db = schema_editor.connection
    return "CONCURRENTLY " if db.vendor == "postgresql" and not db.in_atomic_block else ""
