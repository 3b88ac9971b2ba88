from django.db import migrations, models

import notifications.times
from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0018_executor"),
    ]

    operations = [
        AddField(
            model_name="notification",
            name="snoozed_until",
            field=notifications.times.MomentField(blank=True, editable=False, null=True),
        ),
        *(
            AddIndex(
                model_name="notification",
                index=models.Index(
                    condition=models.Q(snoozed_until__isnull=False),
                    fields=fields,
                    name=f"notifications_n_{name}",
                ),
            )
            for name, fields in (("snoozed", ["user", "raised"]), ("due", ["snoozed_until"]))
        ),
    ]
