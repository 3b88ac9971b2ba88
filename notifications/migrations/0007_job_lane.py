from django.db import migrations, models
from django.db.transaction import atomic

from notifications.migrations._indexes import AddIndex, add, drop


class AddField(migrations.AddField):
    """Without a copy of the table on SQLite, and again after an interruption."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        db = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(db.alias, model) or self.is_added(db, model):
            return None
        if db.vendor != "sqlite":
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        # Django copies the table for each column that is NOT NULL, which SQLite need not for one with a default.
        column, quote = model._meta.get_field(self.name), schema_editor.quote_name
        schema_editor.execute(
            f"ALTER TABLE {quote(model._meta.db_table)} ADD COLUMN {quote(column.column)} {column.db_type(db)} "
            f"DEFAULT '{self.field.db_default}' NOT NULL"
        )

    def is_added(self, db, model):
        with db.cursor() as cursor:
            columns = db.introspection.get_table_description(cursor, model._meta.db_table)
        return self.name in [column.name for column in columns]


class ReplaceIndex(AddIndex):
    """Give an index other fields. On SQLite, whose queries name it, it is there at every moment."""

    def __init__(self, model_name, index, before):
        super().__init__(model_name, index)
        self.before = before

    def state_forwards(self, app_label, state):
        state.remove_index(app_label, self.model_name_lower, self.index.name)
        super().state_forwards(app_label, state)

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        self.replace(schema_editor, to_state.apps.get_model(app_label, self.model_name), self.index)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self.replace(schema_editor, to_state.apps.get_model(app_label, self.model_name), self.before)

    def replace(self, schema_editor, model, index):
        db = schema_editor.connection
        if not self.allow_migrate_model(db.alias, model):
            return
        if db.vendor != "postgresql":
            with atomic(db.alias):
                drop(schema_editor, index.name)
                schema_editor.add_index(model, index)
            return
        # Made beside the one before, by which jobs are claimed meanwhile. What an interruption left goes first.
        new = index.clone()
        new.name += "_new"
        drop(schema_editor, new.name)
        add(schema_editor, model, new)
        drop(schema_editor, index.name)
        schema_editor.rename_index(model, new, index)


def replace_index(name, condition, fields):
    """Put the lane into an index, before or behind the name of the queue."""
    at = fields.index("lane")
    before = [*fields[:at], *fields[at + 1 :]]
    made = (models.Index(fields=some, name=name, condition=condition) for some in (fields, before))
    return ReplaceIndex("job", *made)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0006_job_queued"),
    ]

    operations = [
        AddField(
            model_name="job",
            name="lane",
            field=models.CharField(
                choices=[("async", "Async"), ("sync", "Sync"), ("suspect", "Suspect")],
                db_default="sync",
                default="sync",
                editable=False,
                max_length=10,
            ),
        ),
        replace_index(
            "notifications_job_ready",
            models.Q(run_after__isnull=True, state="queued"),
            ["lane", "-priority", "id"],
        ),
        replace_index(
            "notifications_job_queued",
            models.Q(("state__startswith", "queued")),
            ["queue_name", "lane", "run_after", "-priority", "id"],
        ),
        replace_index(
            "notifications_job_keyed",
            models.Q(("state__endswith", "queued")),
            ["queue_name", "lane", "concurrency_key", "run_after", "-priority", "id"],
        ),
    ]
