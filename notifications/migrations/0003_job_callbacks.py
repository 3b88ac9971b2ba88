from django.db import migrations, models

from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0002_former_databases"),
    ]

    operations = [
        CreateModel(
            name="JobCallback",
            fields=[
                (
                    "job",
                    models.UUIDField(editable=False, primary_key=True, serialize=False, verbose_name="job"),
                ),
                ("url", models.CharField(max_length=1000, verbose_name="URL")),
            ],
            options={
                "verbose_name": "callback",
                "verbose_name_plural": "callbacks",
                "default_permissions": (),
            },
        ),
    ]
