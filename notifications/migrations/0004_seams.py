from django.db import migrations, models

from notifications.migrations._operations import AddField, AddIndex


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
    ]
