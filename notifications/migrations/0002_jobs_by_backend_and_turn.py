import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Jobs are claimed by backend, queue and turn, and no more is stored about messages to engines; users save views.

    Processes of version 0.9.0 may run meanwhile. Their INSERTs name the columns of messages, so the database keeps
    these for now, and do not name those of turns, which have a default. On SQLite their claims name the indexes, which
    therefore keep their names. On PostgreSQL they use ``share`` as an alias, which a column of that name would hide.
    """

    dependencies = [("notifications", "0001_streams")]

    operations = [
        migrations.RemoveIndex("job", "notifications_job_dispatched"),
        migrations.RemoveIndex("job", "notifications_job_ready"),
        migrations.RemoveIndex("job", "notifications_job_queued"),
        migrations.RemoveIndex("job", "notifications_job_keyed"),
        migrations.RemoveIndex("job", "notifications_job_failed"),
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
        migrations.CreateModel(
            "QueueClock",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=100)),
                ("queue_name", models.CharField(max_length=100)),
                ("executor", models.CharField(max_length=20)),
                ("priority", models.SmallIntegerField()),
                ("turn", models.BigIntegerField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend", "queue_name", "executor", "priority"),
                        name="notifications_queueclock_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            "InboxViews",
            [
                (
                    "user",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
                ("views", models.TextField(default="[]")),
            ],
            options={"default_permissions": ()},
        ),
        # By SQL, because Django would make SQLite's table anew, without the columns of messages.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    [
                        "ALTER TABLE notifications_job ADD COLUMN share_name varchar(200) DEFAULT '' NOT NULL",
                        "ALTER TABLE notifications_job ADD COLUMN turn bigint DEFAULT 0 NOT NULL",
                        "ALTER TABLE notifications_job ADD COLUMN unrecorded_outcome text",
                    ],
                    [
                        # Version 0.9.0 would never run them: it does not know these executors.
                        "UPDATE notifications_job SET executor = 'engine' "
                        "WHERE executor LIKE 'woken%' AND state IN ('queued', 'running', 'waiting')",
                        "ALTER TABLE notifications_job DROP COLUMN share_name",
                        "ALTER TABLE notifications_job DROP COLUMN turn",
                        "ALTER TABLE notifications_job DROP COLUMN unrecorded_outcome",
                    ],
                )
            ],
            state_operations=[
                migrations.AddField(
                    "job",
                    "share_name",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
                ),
                migrations.AddField(
                    "job", "turn", models.BigIntegerField(db_default=0, default=0, editable=False)
                ),
                migrations.AddField(
                    "job", "unrecorded_outcome", models.TextField(blank=True, editable=False, null=True)
                ),
            ],
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("run_after__isnull", True), ("state", "queued")),
                fields=["executor", "-priority", "turn", "id"],
                name="notifications_job_ready",
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("run_after__isnull", True), ("state__contains", "queued")),
                fields=["backend", "queue_name", "executor", "priority", "share_name", "-turn"],
                name="notifications_job_share",
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("state__startswith", "queued")),
                fields=["backend", "queue_name", "executor", "run_after", "-priority", "turn", "id"],
                name="notifications_job_queued",
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("state__endswith", "queued")),
                fields=[
                    *("backend", "queue_name", "executor", "concurrency_key"),
                    *("run_after", "-priority", "turn", "id"),
                ],
                name="notifications_job_keyed",
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("queued_at__gt", models.F("created_at"))),
                fields=["user", "queued_at"],
                name="notifications_job_retried",
            ),
        ),
        migrations.AlterModelOptions(
            "job",
            {
                "default_permissions": ("add", "view", "change"),
                "permissions": [
                    ("view_job_arguments", "Can view the arguments of jobs"),
                    ("view_traceback", "Can view the tracebacks of jobs"),
                ],
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
            },
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(("state", "failed")),
                fields=["finished_at", "task_path", "executor", "attempt", "user", "id"],
                name="notifications_job_failed",
            ),
        ),
    ]
