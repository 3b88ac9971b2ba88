from django.db import migrations, models

from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0011_open_questions"),
    ]

    operations = [
        AddField(
            model_name="seenmark",
            name="receipts",
            field=models.TextField(blank=True, editable=False, null=True),
        ),
    ]
