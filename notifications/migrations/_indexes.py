"""Indexes of large tables, made and dropped beside writers."""

from django.db import migrations


class AddIndex(migrations.AddIndex):
    """Add an index without a lock that writers wait for (PostgreSQL), and only if it is missing.

    So a migration that was interrupted, or is run twice at the same time, never takes an index away that queries name.
    Django's own AddIndexConcurrently needs psycopg also on SQLite.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            add(schema_editor, model, self.index)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            drop(schema_editor, self.index.name)


class RemoveIndex(migrations.RemoveIndex):
    """Drop an index as ``AddIndex`` adds one."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            drop(schema_editor, self.name)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            index = to_state.models[app_label, self.model_name_lower].get_index_by_name(self.name)
            add(schema_editor, model, index)


def add(schema_editor, model, index):
    state = found(schema_editor, index.name)
    if state == "invalid":  # an interrupted build of PostgreSQL leaves one that no query uses
        drop(schema_editor, index.name)
    if state != "valid":
        options = {"concurrently": True} if concurrently(schema_editor) else {}
        schema_editor.add_index(model, index, **options)


def drop(schema_editor, name):
    how = concurrently(schema_editor)
    schema_editor.execute(f"DROP INDEX {how}IF EXISTS {schema_editor.quote_name(name)}")


def found(schema_editor, name):
    """Return "valid", "invalid" or, where there is no such index, None."""
    if schema_editor.collect_sql:  # sqlmigrate prints the statements for a new database
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
