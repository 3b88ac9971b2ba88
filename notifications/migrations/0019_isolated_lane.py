from django.db import migrations, models


class Migration(migrations.Migration):
    """Another choice, which the database does not know of."""

    dependencies = [
        ("notifications", "0018_worker_brokers"),
    ]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="lane",
            field=models.CharField(
                choices=[
                    ("async", "Async"),
                    ("sync", "Sync"),
                    ("suspect", "Suspect"),
                    ("engine", "For an engine"),
                    ("handed", "Handed to an engine"),
                    ("isolated", "Suspect"),
                    ("observed", "Observed"),
                ],
                db_default="sync",
                default="sync",
                editable=False,
                max_length=10,
            ),
        ),
    ]
