import django.core.validators
import django.db.models.deletion
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
            name="ChannelOutage",
            fields=[
                ("channel", models.CharField(max_length=30, primary_key=True, serialize=False)),
                ("timeouts", models.PositiveIntegerField(default=0)),
                ("suspended_until", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Reader",
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
                ("paused_until", models.DateTimeField(blank=True, null=True, verbose_name="paused until")),
                (
                    "time_zone",
                    models.CharField(blank=True, default="", max_length=64, verbose_name="time zone"),
                ),
                (
                    "digest_hour",
                    models.PositiveSmallIntegerField(
                        default=8,
                        validators=[django.core.validators.MaxValueValidator(23)],
                        verbose_name="hour",
                    ),
                ),
                (
                    "digest_day",
                    models.PositiveSmallIntegerField(
                        default=0,
                        validators=[django.core.validators.MaxValueValidator(6)],
                        verbose_name="day",
                    ),
                ),
                ("dead_addresses", models.JSONField(blank=True, default=dict, verbose_name="dead addresses")),
                ("quiet_hours", models.JSONField(blank=True, null=True, verbose_name="quiet hours")),
            ],
            options={
                "verbose_name": "reader",
                "verbose_name_plural": "readers",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7, editable=False, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("notification", models.UUIDField(verbose_name="notification")),
                ("channel", models.CharField(max_length=30, verbose_name="channel")),
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
                            ("off", "The user had switched it off."),
                            ("inactive", "The user is not active."),
                            ("no-address", "The user has no address for this channel."),
                            ("dead-address", "The address had been refused for good."),
                            ("gone", "The address is not one of the user any more."),
                            ("not-installed", "The app of this channel is not installed any more."),
                        ],
                        default="",
                        max_length=20,
                        verbose_name="reason",
                    ),
                ),
                ("error", models.CharField(blank=True, default="", max_length=500, verbose_name="error")),
                ("job", models.UUIDField(blank=True, null=True, verbose_name="job")),
                ("due_at", models.DateTimeField(verbose_name="due")),
                ("delay_seconds", models.PositiveIntegerField(db_default=0, default=0, editable=False)),
                ("is_explicit", models.BooleanField(db_default=False, default=False, editable=False)),
                ("attempted_at", models.DateTimeField(blank=True, null=True, verbose_name="attempted")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
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
                        condition=models.Q(("state", "pending")),
                        fields=["due_at", "id", "channel"],
                        name="notifications_delivery_pending",
                    ),
                    models.Index(
                        condition=models.Q(("state", "queued")),
                        fields=["job"],
                        name="notifications_delivery_job",
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
        migrations.CreateModel(
            name="Preference",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("category", models.CharField(blank=True, max_length=100, verbose_name="category")),
                ("channel", models.CharField(max_length=30, verbose_name="channel")),
                (
                    "choice",
                    models.CharField(
                        choices=[
                            ("on", "each one"),
                            ("hourly", "every hour, together"),
                            ("daily", "every day, together"),
                            ("weekly", "every week, together"),
                            ("off", "never"),
                        ],
                        max_length=10,
                        verbose_name="choice",
                    ),
                ),
                ("before_mute", models.CharField(blank=True, db_default="", default="", max_length=10)),
                (
                    "before_unsubscribe",
                    models.CharField(blank=True, db_default="", default="", max_length=10),
                ),
                ("off_until", models.DateTimeField(blank=True, null=True, verbose_name="off until")),
                ("changed_at", models.DateTimeField(verbose_name="changed")),
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
                "verbose_name": "preference",
                "verbose_name_plural": "preferences",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "category", "channel"), name="notifications_preference_key"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PushSubscription",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7, editable=False, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("endpoint", models.CharField(max_length=1000)),
                ("p256dh", models.CharField(max_length=100)),
                ("auth", models.CharField(max_length=30)),
                (
                    "key_hash",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=64),
                ),
                (
                    "refused_status",
                    models.PositiveSmallIntegerField(db_default=0, default=0, editable=False),
                ),
                (
                    "refused_reason",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("language", models.CharField(blank=True, default="", max_length=35)),
                ("created_at", models.DateTimeField(verbose_name="created")),
                ("used_at", models.DateTimeField(blank=True, null=True, verbose_name="last used")),
                ("seen_at", models.DateTimeField(verbose_name="last seen")),
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
                "verbose_name": "device",
                "verbose_name_plural": "devices",
                "default_permissions": (),
                "indexes": [models.Index(fields=["user", "id"], name="notifications_pushsub_user")],
                "constraints": [
                    models.UniqueConstraint(fields=("endpoint",), name="notifications_pushsub_endpoint")
                ],
            },
        ),
        migrations.CreateModel(
            name="Throttle",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7, editable=False, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("channel", models.CharField(max_length=30)),
                ("is_required", models.BooleanField(db_default=False, default=False)),
                ("ends_at", models.DateTimeField()),
                ("opened_by", models.UUIDField(null=True)),
                ("joined_since", models.DateTimeField(null=True)),
                ("job", models.UUIDField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "channel", "is_required"), name="notifications_throttle_key"
                    )
                ],
            },
        ),
    ]
