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
            name="JobCallback",
            fields=[
                (
                    "job",
                    models.UUIDField(editable=False, primary_key=True, serialize=False, verbose_name="job"),
                ),
                ("url", models.CharField(max_length=1000, verbose_name="URL")),
            ],
            options={
                "verbose_name": "callback",
                "verbose_name_plural": "callbacks",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="WebhookAttempt",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7, editable=False, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("endpoint", models.UUIDField(verbose_name="webhook")),
                ("job", models.UUIDField(verbose_name="job")),
                ("event", models.CharField(max_length=40, verbose_name="event")),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("milliseconds", models.PositiveIntegerField(verbose_name="milliseconds")),
                ("status", models.PositiveSmallIntegerField(null=True, verbose_name="status")),
                ("error", models.CharField(blank=True, default="", max_length=40, verbose_name="error")),
            ],
            options={
                "verbose_name": "webhook attempt",
                "verbose_name_plural": "webhook attempts",
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["endpoint", "started_at"], name="notifications_webhook_log"),
                    models.Index(fields=["started_at"], name="notifications_webhook_old"),
                    models.Index(fields=["job"], name="notifications_webhook_job"),
                ],
            },
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7, editable=False, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("url", models.CharField(max_length=1000, verbose_name="URL")),
                (
                    "description",
                    models.CharField(blank=True, default="", max_length=200, verbose_name="description"),
                ),
                ("events", models.CharField(max_length=200, verbose_name="events")),
                ("secret", models.CharField(editable=False, max_length=100, verbose_name="secret")),
                ("previous_secret", models.CharField(blank=True, default="", editable=False, max_length=100)),
                (
                    "previous_until",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="the previous secret signs until"
                    ),
                ),
                (
                    "off_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="turned off"),
                ),
                (
                    "off_reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("by-hand", "It was turned off by hand."),
                            ("gone", "It has answered with status 410 (Gone)."),
                            ("failing", "No event has reached it for days."),
                        ],
                        default="",
                        editable=False,
                        max_length=10,
                        verbose_name="reason",
                    ),
                ),
                (
                    "failing_since",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="failing since"),
                ),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created")),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        help_text="It gets the events of this user. Leave it empty for the events of all users.",
                        null=True,
                        on_delete=models.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook",
                "verbose_name_plural": "webhooks",
                "permissions": [("view_webhook_secret", "Can view the secrets of webhooks")],
                "indexes": [
                    models.Index(
                        condition=models.Q(("off_at__isnull", True)),
                        fields=["user"],
                        name="notifications_webhook_on",
                    ),
                    models.Index(fields=["user"], name="notifications_webhook_user"),
                ],
            },
        ),
    ]
