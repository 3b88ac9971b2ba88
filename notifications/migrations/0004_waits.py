import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids
import notifications.times
from notifications.migrations._operations import AddField, AddIndex, CreateModel


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0003_job_callbacks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="Wait",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("job", models.UUIDField(verbose_name="job")),
                ("name", models.CharField(max_length=200, verbose_name="name")),
                (
                    "kind",
                    models.CharField(
                        choices=[("pause", "Pause"), ("question", "Question"), ("callback", "Callback")],
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                ("is_awaited", models.BooleanField(default=False)),
                ("title", models.CharField(blank=True, default="", max_length=200, verbose_name="title")),
                ("details", models.TextField(default="{}")),
                ("attempt", models.PositiveIntegerField(verbose_name="attempt")),
                ("created_at", notifications.times.MomentField(verbose_name="created")),
                ("due_at", notifications.times.MomentField(blank=True, null=True, verbose_name="due")),
                ("ended_at", notifications.times.MomentField(blank=True, null=True, verbose_name="ended")),
                (
                    "how",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("due", "Due"),
                            ("answered", "Answered"),
                            ("called_back", "Called back"),
                            ("expired", "Expired"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="",
                        max_length=12,
                    ),
                ),
                ("value", models.TextField(blank=True, null=True, verbose_name="value")),
                (
                    "ended_by",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="ended by",
                    ),
                ),
                ("ended_with", models.CharField(blank=True, default="", max_length=100)),
            ],
            options={
                "verbose_name": "wait",
                "verbose_name_plural": "waits",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        condition=models.Q(("ended_at__isnull", True)),
                        fields=["due_at"],
                        name="notifications_wait_due",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("job", "name"), name="notifications_wait_name")
                ],
            },
        ),
        AddField(
            model_name="job",
            name="waiting",
            field=models.TextField(blank=True, editable=False, null=True),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["id"], name="notifications_job_waiting"
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("running", "Running"),
                    ("waiting", "Waiting"),
                    ("succeeded", "Succeeded"),
                    ("failed", "Failed"),
                    ("cancelled", "Cancelled"),
                ],
                default="queued",
                max_length=10,
                verbose_name="state",
            ),
        ),
    ]
