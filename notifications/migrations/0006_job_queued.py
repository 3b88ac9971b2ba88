from django.db import migrations, models


class AddIndex(migrations.AddIndex):
    """On PostgreSQL without a lock that writers of a large table would wait for, and again after an interruption.

    Django's own operation needs psycopg also on SQLite.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        # An interrupted migration leaves indexes behind, and on PostgreSQL one that nobody uses.
        self.drop(schema_editor, model)
        schema_editor.add_index(model, self.index, **self.how(schema_editor))

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            self.drop(schema_editor, model)

    def drop(self, schema_editor, model):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.remove_index(model, self.index, **self.how(schema_editor))
        else:
            schema_editor.execute(f"DROP INDEX IF EXISTS {schema_editor.quote_name(self.index.name)}")

    def how(self, schema_editor):
        db = schema_editor.connection
        return {"concurrently": True} if db.vendor == "postgresql" and not db.in_atomic_block else {}


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0005_ring_origin"),
    ]

    operations = [
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__startswith", "queued")),
                fields=["queue_name", "run_after", "-priority", "id"],
                name="notifications_job_queued",
            ),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__endswith", "queued")),
                fields=["queue_name", "concurrency_key", "run_after", "-priority", "id"],
                name="notifications_job_keyed",
            ),
        ),
    ]
