from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [("notifications", "0001_streams")]

    operations = [
        migrations.CreateModel(
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
                ("created_at", models.DateTimeField(verbose_name="created")),
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
