from django.db import migrations, models

from notifications.migrations._operations import AddField
from notifications.times import MomentField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0015_held_keys"),
    ]

    operations = [
        AddField(
            model_name="broadcast",
            name="send_at",
            field=MomentField(null=True, verbose_name="to be sent at"),
        ),
        AddField(
            model_name="broadcast",
            name="translations",
            field=models.TextField(db_default="{}", default="{}"),
        ),
    ]
