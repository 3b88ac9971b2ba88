from django.db import migrations, models

from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False  # see exclusively()
    dependencies = [
        ("notifications", "0017_announced_states"),
    ]

    operations = [
        AddField(
            model_name="worker",
            name="broker",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=64),
        ),
    ]
