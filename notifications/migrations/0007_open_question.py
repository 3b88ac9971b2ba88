from django.db import migrations, models

from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0006_answer_question"),
    ]

    operations = [
        AddField(
            model_name="notification",
            name="open_question",
            field=models.UUIDField(blank=True, editable=False, null=True),
        ),
    ]
