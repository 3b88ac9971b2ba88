from django.db import migrations, models

from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0027_delivery_attempts")]

    operations = [
        AddField(
            model_name="preference",
            name="before_mute",
            field=models.CharField(blank=True, db_default="", default="", max_length=10),
        ),
    ]
