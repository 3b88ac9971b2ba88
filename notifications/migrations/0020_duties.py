from django.db import migrations, models

from notifications.migrations._operations import AddField, CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0019_isolated_lane"),
    ]

    operations = [
        CreateModel(
            name="DutyRun",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("last_run_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        AddField(
            model_name="alertstate",
            name="no_worker_since",
            field=models.DateTimeField(null=True),
        ),
    ]
