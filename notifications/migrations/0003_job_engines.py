from django.db import migrations, models

import notifications.times
from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0002_job_lanes"),
    ]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="lane",
            field=models.CharField(
                choices=[
                    ("async", "Async"),
                    ("sync", "Sync"),
                    ("suspect", "Suspect"),
                    ("engine", "For an engine"),
                    ("handed", "Handed to an engine"),
                    ("observed", "Observed"),
                ],
                db_default="sync",
                default="sync",
                editable=False,
                max_length=10,
            ),
        ),
        AddField(
            model_name="job",
            name="hand_over_at",
            field=notifications.times.MomentField(blank=True, editable=False, null=True),
        ),
        AddField(
            model_name="job",
            name="handovers",
            field=models.PositiveIntegerField(
                db_default=0, default=0, editable=False, verbose_name="handed over"
            ),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(lane="handed", state="queued"),
                fields=["hand_over_at", "id"],
                name="notifications_job_handed",
            ),
        ),
    ]
