from django.db import migrations

import notifications.times
from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False  # see exclusively()

    dependencies = [
        ("notifications", "0007_overview"),
    ]

    operations = [
        AddField(
            model_name="job",
            name="handed_over_at",
            field=notifications.times.MomentField(
                blank=True, editable=False, null=True, verbose_name="handed over since"
            ),
        ),
    ]
