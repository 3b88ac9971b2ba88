from django.conf import settings
from django.db import migrations, models

from notifications.models import uuid7


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("notifications", "0001_streams"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Broadcast",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
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
                ("translations", models.TextField(db_default="{}", default="{}")),
                (
                    "audience_kind",
                    models.CharField(
                        choices=[
                            ("users", "Users"),
                            ("groups", "Members of groups"),
                            ("permission", "Holders of a permission"),
                            ("staff", "All staff"),
                            ("everybody", "Everybody"),
                            ("affected", "Those affected by a failure"),
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
                ("send_at", models.DateTimeField(null=True, verbose_name="to be sent at")),
                ("sent_at", models.DateTimeField(null=True, verbose_name="sent at")),
                ("withdrawn_at", models.DateTimeField(null=True, verbose_name="withdrawn at")),
                (
                    "sender",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=models.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="sender",
                    ),
                ),
            ],
            options={
                "verbose_name": "broadcast",
                "verbose_name_plural": "broadcasts",
                "permissions": [("withdraw_broadcast", "Can withdraw broadcasts")],
                "default_permissions": ("view",),
            },
        ),
    ]
