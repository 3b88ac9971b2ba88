from django.db import migrations, models

import notifications.times
from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    """Columns for what the previous version stores in columns with another meaning: see ``FORMER_COLUMNS``."""

    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0020_duties"),
    ]

    operations = [
        *(
            AddField(
                model_name="job",
                name=name,
                field=notifications.times.MomentField(blank=True, editable=False, null=True),
            )
            for name in ("fail_if_unknown_after", "check_at", "missing_since", "expires_at", "open_until")
        ),
        AddField(
            model_name="job",
            name="broker",
            field=models.CharField(blank=True, editable=False, max_length=64, null=True),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(lane="observed", state="queued"),
                fields=["check_at", "id"],
                name="notifications_job_check",
            ),
        ),
    ]
