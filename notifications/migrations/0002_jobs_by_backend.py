from django.db import migrations, models


class Migration(migrations.Migration):
    """Jobs are claimed by backend and queue, and no more is stored about messages to engines.

    Processes of version 0.9.0 may run meanwhile. Their INSERTs name the columns of messages, so the database keeps
    these for now. On SQLite their claims name the two indexes, which therefore keep their names.
    """

    dependencies = [("notifications", "0001_streams")]

    operations = [
        migrations.RemoveIndex("job", "notifications_job_dispatched"),
        migrations.RemoveIndex("job", "notifications_job_queued"),
        migrations.RemoveIndex("job", "notifications_job_keyed"),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField("job", "next_dispatch_at"),
                migrations.RemoveField("job", "dispatched_at"),
                migrations.RemoveField("job", "dispatch_count"),
            ],
        ),
        migrations.AlterField(
            "job",
            "executor",
            models.CharField(
                choices=[
                    ("async", "Async"),
                    ("sync", "Sync"),
                    ("quarantined", "Quarantined"),
                    ("sender", "Sender"),
                    ("email", "E-mail"),
                    ("woken_async", "Async"),
                    ("woken_sync", "Sync"),
                    ("woken_quarantined", "Quarantined"),
                    ("woken_sender", "Sender"),
                    ("woken_email", "E-mail"),
                    ("observed", "Observed"),
                ],
                db_default="sync",
                default="sync",
                editable=False,
                max_length=20,
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("state__startswith", "queued")),
                fields=["backend", "queue_name", "executor", "run_after", "-priority", "id"],
                name="notifications_job_queued",
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("state__endswith", "queued")),
                fields=[
                    *("backend", "queue_name", "executor", "concurrency_key"),
                    *("run_after", "-priority", "id"),
                ],
                name="notifications_job_keyed",
            ),
        ),
    ]
