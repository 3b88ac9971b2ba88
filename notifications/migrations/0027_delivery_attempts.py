from django.db import migrations

import notifications.times
from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0026_steps")]

    operations = [
        AddField(
            model_name="delivery",
            name="attempted_at",
            field=notifications.times.MomentField(blank=True, null=True, verbose_name="attempted"),
        ),
    ]
