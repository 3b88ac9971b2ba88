from django.db import migrations, models

from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0005_schedules"),
    ]

    operations = [
        AddField(
            model_name="attempt",
            name="location",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=300, verbose_name="location"
            ),
        ),
        AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(state="failed"), fields=["finished_at"], name="notifications_job_failed"
            ),
        ),
    ]
