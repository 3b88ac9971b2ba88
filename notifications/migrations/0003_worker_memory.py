from django.db import migrations, models

from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0002_present_schema")]

    operations = [
        AddField(
            model_name="worker",
            name="memory",
            field=models.BigIntegerField(editable=False, null=True, verbose_name="memory"),
        ),
    ]
