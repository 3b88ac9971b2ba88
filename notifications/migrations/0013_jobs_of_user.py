from django.db import migrations, models

from notifications.migrations._operations import ReplaceIndex

NAME = "notifications_job_user"


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0012_stream_seen"),
    ]

    operations = [
        ReplaceIndex(
            "job",
            models.Index(fields=["user", "created_at", "id"], name=NAME),
            models.Index(fields=["user", "id"], name=NAME),
        ),
    ]
