import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids
import notifications.times
from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("notifications", "0024_webhooks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="delivery",
            name="channel",
            field=models.CharField(
                choices=[("email", "e-mail"), ("push", "push")], max_length=10, verbose_name="channel"
            ),
        ),
        migrations.AlterField(
            model_name="preference",
            name="channel",
            field=models.CharField(
                choices=[("bell", "in the bell"), ("email", "by e-mail"), ("push", "by push")],
                max_length=10,
                verbose_name="channel",
            ),
        ),
        migrations.AlterField(
            model_name="delivery",
            name="reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("seen", "The notification had been seen."),
                    ("read", "The notification had been read."),
                    ("archived", "The notification had been archived or replaced by a newer one."),
                    ("deleted", "The notification had been deleted."),
                    ("off", "The user had switched it off."),
                    ("inactive", "The user is not active."),
                    ("no-address", "The user has no valid e-mail address."),
                    ("dead-address", "A mail server had refused the address for good."),
                    ("no-device", "The user has no device for push."),
                    ("gone", "The device is not subscribed any more."),
                ],
                default="",
                max_length=20,
                verbose_name="reason",
            ),
        ),
        CreateModel(
            name="PushSubscription",
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
                ("endpoint", models.CharField(max_length=1000)),
                ("p256dh", models.CharField(max_length=100)),
                ("auth", models.CharField(max_length=30)),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("language", models.CharField(blank=True, default="", max_length=35)),
                ("created_at", notifications.times.MomentField(verbose_name="created")),
                ("used_at", notifications.times.MomentField(blank=True, null=True, verbose_name="last used")),
                ("seen_at", notifications.times.MomentField(verbose_name="last seen")),
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
    ]
