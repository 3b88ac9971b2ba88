from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [("notifications", "0001_streams")]

    operations = [
        migrations.CreateModel(
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
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("ended_at", models.DateTimeField(verbose_name="ended")),
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
        migrations.CreateModel(
            name="UnfinishedStep",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job", models.UUIDField(verbose_name="job")),
                ("name", models.CharField(max_length=200, verbose_name="name")),
                ("attempt", models.PositiveIntegerField(verbose_name="attempt")),
                ("fence", models.BigIntegerField()),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended")),
            ],
            options={
                "verbose_name": "unfinished step",
                "verbose_name_plural": "unfinished steps",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("job", "attempt", "name"), name="notifications_step_call")
                ],
            },
        ),
    ]
