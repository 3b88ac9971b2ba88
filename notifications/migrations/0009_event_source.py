from django.db import migrations, models

from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0008_output"),
    ]

    operations = [
        AddField(
            model_name="job",
            name="event_source",
            field=models.UUIDField(blank=True, editable=False, null=True),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("event_source__isnull", False)),
                fields=["event_source", "id"],
                name="notifications_job_event",
            ),
        ),
        AddIndex(
            model_name="webhookattempt",
            index=models.Index(fields=["job"], name="notifications_webhook_job"),
        ),
    ]
