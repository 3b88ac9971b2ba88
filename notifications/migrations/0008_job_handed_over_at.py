from django.db import migrations

import notifications.times


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0007_overview"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="handed_over_at",
            field=notifications.times.MomentField(
                blank=True, editable=False, null=True, verbose_name="handed over since"
            ),
        ),
    ]
