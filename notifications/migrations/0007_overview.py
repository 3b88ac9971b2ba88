from django.db import migrations, models

import notifications.ids
from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False  # see exclusively()

    dependencies = [
        ("notifications", "0006_failed_jobs"),
    ]

    operations = [
        CreateModel(
            name="AlertState",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("evaluated_at", models.DateTimeField()),
                ("worker_seen_at", models.DateTimeField()),
                ("lease_lost_at", models.DateTimeField(null=True)),
                ("lost_worker", models.CharField(blank=True, default="", max_length=511)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        CreateModel(
            name="ServerProcess",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.PositiveBigIntegerField(verbose_name="process id")),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("lease_until", models.DateTimeField(verbose_name="lease until")),
                ("sockets", models.PositiveIntegerField(default=0, verbose_name="sockets")),
                ("users", models.PositiveIntegerField(default=0, verbose_name="users")),
            ],
            options={
                "verbose_name": "server process",
                "verbose_name_plural": "server processes",
                "default_permissions": (),
            },
        ),
        CreateModel(
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
                        choices=[
                            ("stalled", "Queue finishes nothing"),
                            ("wait", "Jobs wait too long"),
                            ("failures", "Many jobs fail"),
                            ("no_worker", "No worker"),
                            ("schedule", "Schedule missed"),
                            ("lease", "Worker lost"),
                        ],
                        max_length=20,
                        verbose_name="kind",
                    ),
                ),
                ("subject", models.CharField(blank=True, default="", max_length=200, verbose_name="subject")),
                ("detail", models.CharField(blank=True, default="", max_length=500, verbose_name="detail")),
                ("opened_at", models.DateTimeField(verbose_name="opened")),
                ("seen_at", models.DateTimeField(verbose_name="last seen")),
                ("closed_at", models.DateTimeField(blank=True, null=True, verbose_name="closed")),
            ],
            options={
                "verbose_name": "alert",
                "verbose_name_plural": "alerts",
                "permissions": (("receive_alerts", "Can receive alerts"),),
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("closed_at__isnull", True)),
                        fields=("kind", "subject"),
                        name="notifications_alert_open",
                    )
                ],
            },
        ),
        CreateModel(
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
            bases=("notifications.alert",),
        ),
    ]
