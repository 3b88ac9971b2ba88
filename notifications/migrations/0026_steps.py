from django.db import migrations, models

import notifications.times
from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0025_push_subscriptions"),
    ]

    operations = [
        CreateModel(
            name="Step",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job", models.UUIDField(verbose_name="job")),
                ("name", models.CharField(max_length=200, verbose_name="name")),
                ("result", models.TextField(verbose_name="result")),
                ("attempt", models.PositiveIntegerField(verbose_name="attempt")),
                ("started_at", notifications.times.MomentField(verbose_name="started")),
                ("ended_at", notifications.times.MomentField(verbose_name="ended")),
            ],
            options={
                "verbose_name": "step",
                "verbose_name_plural": "steps",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("job", "name"), name="notifications_step_name")
                ],
            },
        ),
    ]
