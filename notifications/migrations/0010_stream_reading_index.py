from django.db import migrations, models

from notifications.migrations._indexes import AddIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0009_stream_reading"),
    ]

    operations = [
        AddIndex(
            model_name="stream",
            index=models.Index(
                condition=models.Q(read_up_to__isnull=False),
                fields=["user"],
                name="notifications_stream_reading",
            ),
        ),
    ]
