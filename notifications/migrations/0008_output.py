from django.db import migrations, models

import notifications.times
from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0007_open_question"),
    ]

    operations = [
        CreateModel(
            name="OutputChunk",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job", models.UUIDField(verbose_name="job")),
                ("start", models.BigIntegerField()),
                ("text", models.TextField(verbose_name="text")),
                ("attempt", models.PositiveIntegerField(verbose_name="attempt")),
                ("fence", models.BigIntegerField()),
                ("created_at", notifications.times.MomentField(verbose_name="created")),
            ],
            options={
                "verbose_name": "output",
                "verbose_name_plural": "output",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("job", "start"), name="notifications_output_start")
                ],
            },
        ),
    ]
