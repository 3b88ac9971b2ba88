from django.db import migrations, models
from django.db.models import Q

from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0014_requests_to_workers"),
    ]

    operations = [
        AddField(
            model_name="job",
            name="held_key_limit",
            # Without a check, for which PostgreSQL would read the table while it holds it locked.
            field=models.IntegerField(blank=True, editable=False, null=True),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=Q(held_key_limit__isnull=False, state__in=["queued", "waiting"]),
                fields=["concurrency_key", "held_key_limit"],
                name="notifications_job_holding",
            ),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=Q(held_key_limit__isnull=False, state__contains="queued"),
                fields=["queue_name", "lane", "run_after", "-priority", "id"],
                name="notifications_job_resumed",
            ),
        ),
    ]
