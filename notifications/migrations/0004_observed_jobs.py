from django.db import migrations, models

from notifications.migrations._operations import AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0003_job_engines"),
    ]

    operations = [
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(lane="observed", state="queued"),
                fields=["deadline", "id"],
                name="notifications_job_observed",
            ),
        ),
    ]
