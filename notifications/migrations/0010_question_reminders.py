from django.db import migrations, models
from django.db.models import Q

from notifications.migrations._operations import AddField, AddIndex
from notifications.times import MomentField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0009_event_source"),
    ]

    operations = [
        AddField(
            model_name="wait",
            name="remind_at",
            field=MomentField(blank=True, null=True, verbose_name="next reminder"),
        ),
        AddIndex(
            model_name="wait",
            index=models.Index(
                condition=Q(ended_at__isnull=True, remind_at__isnull=False),
                fields=["remind_at"],
                name="notifications_wait_remind",
            ),
        ),
    ]
