import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids
import notifications.times
from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0021_separate_columns"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("notification", models.UUIDField(verbose_name="notification")),
                (
                    "channel",
                    models.CharField(choices=[("email", "e-mail")], max_length=10, verbose_name="channel"),
                ),
                ("address", models.CharField(blank=True, default="", max_length=320, verbose_name="address")),
                ("language", models.CharField(blank=True, default="", max_length=35)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "waits"),
                            ("queued", "is sent"),
                            ("sent", "sent"),
                            ("skipped", "not sent"),
                            ("failed", "failed"),
                        ],
                        default="pending",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("seen", "The notification had been seen."),
                            ("read", "The notification had been read."),
                            ("archived", "The notification had been archived or replaced by a newer one."),
                            ("deleted", "The notification had been deleted."),
                            ("muted", "The user had muted its category."),
                            ("inactive", "The user is not active."),
                            ("no-address", "The user has no valid e-mail address."),
                        ],
                        default="",
                        max_length=20,
                        verbose_name="reason",
                    ),
                ),
                ("error", models.CharField(blank=True, default="", max_length=500, verbose_name="error")),
                ("job", models.UUIDField(blank=True, null=True, verbose_name="job")),
                ("due_at", notifications.times.MomentField(verbose_name="due")),
                ("ended_at", notifications.times.MomentField(blank=True, null=True, verbose_name="ended")),
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
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        condition=models.Q(state="pending"),
                        fields=["due_at", "id"],
                        name="notifications_delivery_due",
                    ),
                    models.Index(
                        condition=models.Q(state="queued"), fields=["job"], name="notifications_delivery_job"
                    ),
                    models.Index(fields=["user"], name="notifications_delivery_user"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("notification", "channel", "address"), name="notifications_delivery_key"
                    )
                ],
            },
        ),
    ]
