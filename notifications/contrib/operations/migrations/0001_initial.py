from django.conf import settings
from django.db import migrations, models

from notifications.contrib.operations.models import alert_kinds


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("notifications", "0001_streams"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AlertState",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("no_worker_since", models.DateTimeField(null=True)),
                ("lease_lost_at", models.DateTimeField(null=True)),
                ("lost_worker", models.CharField(blank=True, default="", max_length=511)),
                ("failures_read_until", models.DateTimeField(null=True)),
                ("last_failure_read", models.UUIDField(null=True)),
                ("last_incident_checked", models.CharField(blank=True, default="", max_length=32)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=32)),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                (
                    "exception_class_path",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="exception"),
                ),
                (
                    "location",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="location"),
                ),
                ("host", models.CharField(blank=True, default="", max_length=253)),
                ("begun_at", models.DateTimeField(verbose_name="begun")),
                ("failed_at", models.DateTimeField(verbose_name="last failure")),
                ("over_at", models.DateTimeField(blank=True, null=True, verbose_name="over")),
                ("is_alert", models.BooleanField(default=False)),
                ("users", models.BigIntegerField(default=0)),
                ("last_user", models.BigIntegerField(default=0)),
                ("broadcasts", models.TextField(db_default="[]", default="[]", editable=False)),
                ("broadcast", models.UUIDField(editable=False, null=True)),
                ("notified_at", models.DateTimeField(null=True)),
                ("notified_by", models.CharField(blank=True, default="", max_length=150)),
                ("notified_users", models.BigIntegerField(default=0)),
                ("last_notified", models.BigIntegerField(default=0)),
                ("end_broadcast", models.UUIDField(editable=False, null=True)),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["key", "id"], name="notifications_incident_key"),
                    models.Index(fields=["failed_at"], name="notifications_incident_failed"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("over_at__isnull", True)),
                        fields=("key",),
                        name="notifications_incident_open",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="AffectedUser",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "incident",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="affected",
                        to="notifications_operations.incident",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["user"], name="notifications_affected_by_user")],
                "constraints": [
                    models.UniqueConstraint(fields=("incident", "user"), name="notifications_affected_user")
                ],
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=alert_kinds,
                        max_length=20,
                        verbose_name="kind",
                    ),
                ),
                ("subject", models.CharField(blank=True, default="", max_length=200, verbose_name="subject")),
                ("detail", models.CharField(blank=True, default="", max_length=500, verbose_name="detail")),
                ("facts", models.TextField(db_default="{}", default="{}", editable=False)),
                ("opened_at", models.DateTimeField(verbose_name="opened")),
                ("seen_at", models.DateTimeField(verbose_name="last seen")),
                ("closed_at", models.DateTimeField(blank=True, null=True, verbose_name="closed")),
                ("acknowledged_at", models.DateTimeField(blank=True, null=True, verbose_name="acknowledged")),
                (
                    "acknowledged_by",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=150, verbose_name="acknowledged by"
                    ),
                ),
            ],
            options={
                "verbose_name": "alert",
                "verbose_name_plural": "alerts",
                "permissions": (("receive_alerts", "Can receive alerts"),),
                "default_permissions": ("view", "change"),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("closed_at__isnull", True)),
                        fields=("kind", "subject"),
                        name="notifications_alert_open",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Overview",
            fields=[],
            options={
                "verbose_name": "overview",
                "verbose_name_plural": "overview",
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("notifications_operations.alert",),
        ),
        migrations.CreateModel(
            name="JobStatistics",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "period",
                    models.SmallIntegerField(
                        choices=[(1, "Minute"), (2, "Hour"), (3, "Day (UTC)"), (4, "All time")],
                        verbose_name="period",
                    ),
                ),
                ("shard", models.BigIntegerField()),
                ("start", models.BigIntegerField(verbose_name="start")),
                ("queue_name", models.CharField(max_length=100, verbose_name="queue")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("retried", "Attempt retried"),
                            ("timed_out", "Attempt timed out"),
                            ("lost", "Attempt lost"),
                        ],
                        max_length=10,
                        verbose_name="outcome",
                    ),
                ),
                ("count", models.BigIntegerField(verbose_name="count")),
                ("enqueued", models.BigIntegerField(verbose_name="enqueued")),
                ("wait_microseconds", models.BigIntegerField()),
                ("run_microseconds", models.BigIntegerField()),
                ("wait_0", models.BigIntegerField(editable=False, null=True)),
                ("wait_1", models.BigIntegerField(editable=False, null=True)),
                ("wait_2", models.BigIntegerField(editable=False, null=True)),
                ("wait_3", models.BigIntegerField(editable=False, null=True)),
                ("wait_4", models.BigIntegerField(editable=False, null=True)),
                ("wait_5", models.BigIntegerField(editable=False, null=True)),
                ("wait_6", models.BigIntegerField(editable=False, null=True)),
                ("wait_7", models.BigIntegerField(editable=False, null=True)),
                ("wait_8", models.BigIntegerField(editable=False, null=True)),
                ("wait_9", models.BigIntegerField(editable=False, null=True)),
                ("wait_10", models.BigIntegerField(editable=False, null=True)),
                ("wait_11", models.BigIntegerField(editable=False, null=True)),
                ("wait_12", models.BigIntegerField(editable=False, null=True)),
                ("wait_13", models.BigIntegerField(editable=False, null=True)),
                ("wait_14", models.BigIntegerField(editable=False, null=True)),
                ("wait_15", models.BigIntegerField(editable=False, null=True)),
                ("wait_16", models.BigIntegerField(editable=False, null=True)),
                ("wait_17", models.BigIntegerField(editable=False, null=True)),
                ("wait_18", models.BigIntegerField(editable=False, null=True)),
                ("wait_19", models.BigIntegerField(editable=False, null=True)),
                ("wait_20", models.BigIntegerField(editable=False, null=True)),
                ("wait_21", models.BigIntegerField(editable=False, null=True)),
                ("wait_22", models.BigIntegerField(editable=False, null=True)),
                ("wait_23", models.BigIntegerField(editable=False, null=True)),
                ("wait_24", models.BigIntegerField(editable=False, null=True)),
                ("wait_25", models.BigIntegerField(editable=False, null=True)),
                ("wait_26", models.BigIntegerField(editable=False, null=True)),
                ("wait_27", models.BigIntegerField(editable=False, null=True)),
                ("run_0", models.BigIntegerField(editable=False, null=True)),
                ("run_1", models.BigIntegerField(editable=False, null=True)),
                ("run_2", models.BigIntegerField(editable=False, null=True)),
                ("run_3", models.BigIntegerField(editable=False, null=True)),
                ("run_4", models.BigIntegerField(editable=False, null=True)),
                ("run_5", models.BigIntegerField(editable=False, null=True)),
                ("run_6", models.BigIntegerField(editable=False, null=True)),
                ("run_7", models.BigIntegerField(editable=False, null=True)),
                ("run_8", models.BigIntegerField(editable=False, null=True)),
                ("run_9", models.BigIntegerField(editable=False, null=True)),
                ("run_10", models.BigIntegerField(editable=False, null=True)),
                ("run_11", models.BigIntegerField(editable=False, null=True)),
                ("run_12", models.BigIntegerField(editable=False, null=True)),
                ("run_13", models.BigIntegerField(editable=False, null=True)),
                ("run_14", models.BigIntegerField(editable=False, null=True)),
                ("run_15", models.BigIntegerField(editable=False, null=True)),
                ("run_16", models.BigIntegerField(editable=False, null=True)),
                ("run_17", models.BigIntegerField(editable=False, null=True)),
                ("run_18", models.BigIntegerField(editable=False, null=True)),
                ("run_19", models.BigIntegerField(editable=False, null=True)),
                ("run_20", models.BigIntegerField(editable=False, null=True)),
                ("run_21", models.BigIntegerField(editable=False, null=True)),
                ("run_22", models.BigIntegerField(editable=False, null=True)),
                ("run_23", models.BigIntegerField(editable=False, null=True)),
                ("run_24", models.BigIntegerField(editable=False, null=True)),
                ("run_25", models.BigIntegerField(editable=False, null=True)),
                ("run_26", models.BigIntegerField(editable=False, null=True)),
                ("run_27", models.BigIntegerField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "job statistics",
                "verbose_name_plural": "job statistics",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("shard__gt", 0)),
                        fields=["shard"],
                        name="notifications_statistics_new",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("period", "shard", "start", "queue_name", "task_path", "outcome"),
                        name="notifications_statistics_key",
                    )
                ],
            },
        ),
    ]
