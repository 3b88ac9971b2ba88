from django.db import migrations, models

from notifications.migrations._indexes import AddIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0005_ring_origin"),
    ]

    operations = [
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__startswith", "queued")),
                fields=["queue_name", "run_after", "-priority", "id"],
                name="notifications_job_queued",
            ),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__endswith", "queued")),
                fields=["queue_name", "concurrency_key", "run_after", "-priority", "id"],
                name="notifications_job_keyed",
            ),
        ),
    ]
