import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids


class Migration(migrations.Migration):
    initial = True

    # 0002_engine to 0006_job_queued of unreleased versions are part of this migration.

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Epoch",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("value", models.UUIDField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
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
                ("head", models.BigIntegerField(default=0)),
                ("floor", models.BigIntegerField(default=0)),
                ("unread", models.BigIntegerField(default=0)),
                ("guard", models.BigIntegerField(default=0)),
            ],
            options={
                "verbose_name": "stream",
                "verbose_name_plural": "streams",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("process", models.CharField(max_length=255, verbose_name="process")),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("lease_until", models.DateTimeField(verbose_name="lease until")),
                ("queues", models.CharField(blank=True, default="", max_length=1000, verbose_name="queues")),
                ("concurrency", models.PositiveIntegerField(verbose_name="concurrency")),
                ("load", models.PositiveIntegerField(default=0, verbose_name="load")),
                ("outbound", models.TextField(blank=True, default="", verbose_name="outbound calls")),
            ],
            options={
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.BigIntegerField(default=0, editable=False, null=True)),
                ("version", models.BigIntegerField(default=1, editable=False)),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                ("args", models.TextField(default="[]", verbose_name="arguments")),
                ("kwargs", models.TextField(default="{}", verbose_name="keyword arguments")),
                ("backend", models.CharField(max_length=100, verbose_name="backend")),
                ("queue_name", models.CharField(max_length=100, verbose_name="queue")),
                ("priority", models.SmallIntegerField(default=0, verbose_name="priority")),
                ("run_after", models.DateTimeField(blank=True, null=True, verbose_name="run after")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("attempt", models.PositiveIntegerField(default=0, verbose_name="attempt")),
                ("max_attempts", models.PositiveIntegerField(default=1, verbose_name="attempts at most")),
                ("worker", models.UUIDField(blank=True, null=True, verbose_name="worker")),
                ("fence", models.BigIntegerField(default=0)),
                ("deadline", models.DateTimeField(blank=True, null=True)),
                ("progress_current", models.BigIntegerField(blank=True, null=True)),
                ("progress_total", models.BigIntegerField(blank=True, null=True)),
                ("progress_message", models.CharField(blank=True, default="", max_length=200)),
                ("result", models.TextField(blank=True, null=True)),
                ("error", models.TextField(blank=True, null=True)),
                ("title", models.CharField(max_length=200, verbose_name="title")),
                ("url", models.CharField(blank=True, default="", max_length=1000, verbose_name="link")),
                ("language", models.CharField(blank=True, default="", max_length=20)),
                ("trace", models.CharField(blank=True, default="", max_length=800)),
                ("idempotency_key", models.CharField(blank=True, default="", max_length=200)),
                ("idempotency_hash", models.CharField(blank=True, default="", max_length=64)),
                ("idempotency_expires_at", models.DateTimeField(blank=True, null=True)),
                ("concurrency_key", models.CharField(blank=True, default="", max_length=200)),
                ("batch", models.UUIDField(blank=True, null=True)),
                ("cancel_requested_at", models.DateTimeField(blank=True, null=True)),
                ("cancelled_by_other", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created")),
                ("queued_at", models.DateTimeField(editable=False, verbose_name="queued")),
                (
                    "started_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="started"),
                ),
                (
                    "finished_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="finished"),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("worker", models.UUIDField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("lost", "Worker lost"),
                            ("timed_out", "Timed out"),
                        ],
                        max_length=10,
                    ),
                ),
                ("exception_class_path", models.CharField(blank=True, default="", max_length=500)),
                ("traceback", models.TextField(blank=True, default="")),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="attempts",
                        to="notifications.job",
                    ),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.BigIntegerField(editable=False, null=True)),
                ("raised", models.BigIntegerField(editable=False, null=True)),
                ("counted", models.BooleanField(default=False, editable=False)),
                (
                    "level",
                    models.CharField(
                        choices=[
                            ("info", "Info"),
                            ("success", "Success"),
                            ("warning", "Warning"),
                            ("error", "Error"),
                        ],
                        default="info",
                        max_length=10,
                        verbose_name="level",
                    ),
                ),
                (
                    "category",
                    models.CharField(blank=True, default="", max_length=100, verbose_name="category"),
                ),
                ("title", models.CharField(max_length=200, verbose_name="title")),
                ("body", models.TextField(blank=True, default="", max_length=2000, verbose_name="body")),
                ("url", models.CharField(blank=True, default="", max_length=1000, verbose_name="link")),
                ("job", models.UUIDField(blank=True, null=True, verbose_name="job")),
                ("data", models.TextField(default="{}", editable=False)),
                ("key", models.CharField(blank=True, default="", max_length=200, verbose_name="key")),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created")),
                ("read_at", models.DateTimeField(blank=True, editable=False, null=True, verbose_name="read")),
                (
                    "archived_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="archived"),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "notification",
                "verbose_name_plural": "notifications",
                "default_permissions": ("add", "view"),
            },
        ),
        migrations.CreateModel(
            name="Ring",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("origin", models.BigIntegerField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[
                (
                    "name",
                    models.CharField(max_length=100, primary_key=True, serialize=False, verbose_name="queue"),
                ),
                ("paused_at", models.DateTimeField(blank=True, null=True, verbose_name="paused")),
            ],
            options={
                "verbose_name": "queue",
                "verbose_name_plural": "queues",
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(fields=["user", "seq"], name="notifications_job_seq"),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(fields=["user", "id"], name="notifications_job_user"),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("seq__isnull", True)),
                fields=["user", "id"],
                name="notifications_job_unnumbered",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("seq", 0), ("user__isnull", False)),
                fields=["user", "queued_at"],
                name="notifications_job_active",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("run_after__isnull", True), ("state", "queued")),
                fields=["-priority", "id"],
                name="notifications_job_ready",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("run_after__isnull", False), ("state", "queued")),
                fields=["run_after", "id"],
                name="notifications_job_delayed",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state", "running")),
                fields=["worker", "id"],
                name="notifications_job_running",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                name="notifications_job_finished",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__startswith", "queued")),
                fields=["queue_name", "run_after", "-priority", "id"],
                name="notifications_job_queued",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__endswith", "queued")),
                fields=["queue_name", "concurrency_key", "run_after", "-priority", "id"],
                name="notifications_job_keyed",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "state"],
                name="notifications_job_batch",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(
                condition=models.Q(("user__isnull", False), models.Q(("idempotency_key", ""), _negated=True)),
                fields=("user", "idempotency_key"),
                name="notifications_job_key",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(
                condition=models.Q(("user__isnull", True), models.Q(("idempotency_key", ""), _negated=True)),
                fields=("idempotency_key",),
                name="notifications_job_key_nobody",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["user", "seq"], name="notifications_n_seq"),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["user", "raised"], name="notifications_n_raised"),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("seq__isnull", True)),
                fields=["user", "id"],
                name="notifications_n_unnumbered",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(
                    ("archived_at__isnull", True),
                    ("read_at__isnull", True),
                    models.Q(("key", ""), _negated=True),
                ),
                fields=["user", "key"],
                name="notifications_n_key",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("read_at__isnull", True)),
                fields=["user", "raised"],
                name="notifications_n_unread",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("archived_at__isnull", False)),
                fields=["archived_at"],
                name="notifications_n_archived",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("archived_at__isnull", True)),
                fields=["user", "raised"],
                name="notifications_n_inbox",
            ),
        ),
    ]
