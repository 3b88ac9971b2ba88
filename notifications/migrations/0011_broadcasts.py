import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids
from notifications.migrations._operations import AddField, AddIndex, CreateModel


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0010_job_lists"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="Broadcast",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "sender",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="sender",
                    ),
                ),
                (
                    "level",
                    models.CharField(
                        choices=[
                            ("info", "Info"),
                            ("success", "Success"),
                            ("warning", "Warning"),
                            ("error", "Error"),
                        ],
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
                (
                    "audience_kind",
                    models.CharField(
                        choices=[
                            ("users", "Users"),
                            ("groups", "Members of groups"),
                            ("permission", "Holders of a permission"),
                            ("staff", "All staff"),
                            ("everybody", "Everybody"),
                        ],
                        max_length=20,
                        verbose_name="audience",
                    ),
                ),
                ("audience_values", models.TextField(default="[]")),
                ("audience_text", models.CharField(max_length=500, verbose_name="to")),
                ("recipients", models.PositiveBigIntegerField(verbose_name="recipients")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("sending", "Sending"),
                            ("sent", "Sent"),
                            ("withdrawing", "Withdrawing"),
                            ("withdrawn", "Withdrawn"),
                        ],
                        default="sending",
                        max_length=20,
                        verbose_name="state",
                    ),
                ),
                ("position", models.TextField(blank=True, default="")),
                ("sent", models.PositiveBigIntegerField(default=0, verbose_name="sent")),
                ("withdrawn", models.PositiveBigIntegerField(default=0, verbose_name="withdrawn")),
                ("job", models.UUIDField(null=True, verbose_name="job")),
                ("withdrawal_job", models.UUIDField(null=True, verbose_name="job of the withdrawal")),
                ("created_at", models.DateTimeField(verbose_name="created")),
                ("sent_at", models.DateTimeField(null=True, verbose_name="sent at")),
                ("withdrawn_at", models.DateTimeField(null=True, verbose_name="withdrawn at")),
            ],
            options={
                "verbose_name": "broadcast",
                "verbose_name_plural": "broadcasts",
                "permissions": [("withdraw_broadcast", "Can withdraw broadcasts")],
                "default_permissions": ("view",),
            },
        ),
        AddField(
            model_name="notification",
            name="broadcast",
            field=models.UUIDField(blank=True, editable=False, null=True, verbose_name="broadcast"),
        ),
        AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("broadcast__isnull", False)),
                fields=["broadcast", "id", "read_at"],
                name="notifications_n_broadcast",
            ),
        ),
    ]
