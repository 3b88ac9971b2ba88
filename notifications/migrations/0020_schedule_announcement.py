from django.db import migrations, models

from notifications.migrations._operations import AlterField

#: Columns that no process reads any more, and their lengths.
COLUMNS = {"announcement": 10, "announcement_text": 500}


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0019_snoozed"),
    ]

    # The columns stay, with a default for rows of this version, because processes of the previous version read and
    # write them during a rolling deploy.
    operations = [
        *(
            AlterField(
                "schedule",
                name,
                models.CharField(blank=True, db_default="", default="", max_length=length),
            )
            for name, length in COLUMNS.items()
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField("schedule", name) for name in COLUMNS]
        ),
    ]
