from django.db import migrations, models
from django.db.models import Q

from notifications.migrations._operations import AddIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0010_question_reminders"),
    ]

    operations = [
        AddIndex(
            model_name="wait",
            index=models.Index(
                condition=Q(ended_at__isnull=True, kind="question"),
                fields=["created_at"],
                name="notifications_wait_question",
            ),
        ),
        migrations.AlterField(
            model_name="alert",
            name="kind",
            field=models.CharField(
                choices=[
                    ("stalled", "Queue finishes nothing"),
                    ("wait", "Jobs wait too long"),
                    ("failures", "Many jobs fail"),
                    ("no_worker", "No worker"),
                    ("schedule", "Schedule missed"),
                    ("lease", "Worker lost"),
                    ("question", "Question unanswered"),
                ],
                max_length=20,
                verbose_name="kind",
            ),
        ),
    ]
