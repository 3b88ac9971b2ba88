from django.conf import settings
from django.db import migrations, models

from notifications.migrations._operations import AddField, AddIndex, CreateModel, RemoveIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0003_worker_memory")]

    operations = [
        AddField(
            model_name="notification",
            name="snoozed_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        AddField(
            model_name="notification",
            name="returned_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        AddField(
            model_name="delivery",
            name="delay_seconds",
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
        AddIndex(
            model_name="wait",
            index=models.Index(
                condition=models.Q(("ended_by__isnull", False)),
                fields=["ended_by"],
                name="notifications_wait_ended_by",
            ),
        ),
        AddField(
            model_name="preference",
            name="before_unsubscribe",
            field=models.CharField(blank=True, db_default="", default="", max_length=10),
        ),
        AddField(
            model_name="delivery",
            name="is_explicit",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        CreateModel(
            name="EmailThrottle",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=models.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("ends_at", models.DateTimeField()),
                ("opened_by", models.UUIDField(null=True)),
                ("joined_since", models.DateTimeField(null=True)),
                ("job", models.UUIDField(null=True)),
            ],
            options={"default_permissions": ()},
        ),
        CreateModel(
            name="ChannelOutage",
            fields=[
                ("channel", models.CharField(max_length=10, primary_key=True, serialize=False)),
                ("timeouts", models.PositiveIntegerField(default=0)),
                ("rests_until", models.DateTimeField(blank=True, null=True)),
            ],
            options={"default_permissions": ()},
        ),
        AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["due_at", "id", "channel"],
                name="notifications_delivery_pending",
            ),
        ),
        RemoveIndex(model_name="delivery", name="notifications_delivery_due"),
        migrations.AlterField(
            model_name="job",
            name="executor",
            field=models.CharField(
                choices=[
                    ("async", "Async"),
                    ("sync", "Sync"),
                    ("suspect", "Quarantined"),
                    ("sender", "Sender"),
                    ("email", "E-mail"),
                    ("engine", "For an engine"),
                    ("handed", "Dispatched to an engine"),
                    ("isolated", "Quarantined"),
                    ("sending", "Sender, for an engine"),
                    ("observed", "Observed"),
                ],
                db_column="lane",
                db_default="sync",
                default="sync",
                editable=False,
                max_length=10,
            ),
        ),
        AddField(
            model_name="worker",
            name="stuck_calls",
            field=models.PositiveSmallIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
