from django.db import migrations, models


class AddIndex(migrations.AddIndex):
    """On PostgreSQL without a lock that writers of a large table would wait for.

    Django's own operation needs psycopg also on SQLite.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        db = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if db.vendor != "postgresql" or db.in_atomic_block or not self.allow_migrate_model(db.alias, model):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        # An interrupted build leaves an index behind that nobody uses.
        schema_editor.remove_index(model, self.index, concurrently=True)
        schema_editor.add_index(model, self.index, concurrently=True)


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
