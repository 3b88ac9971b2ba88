from django.db import migrations, models

import notifications.ids


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0015_muted_categories"),
    ]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="deadline",
            field=models.DateTimeField(blank=True, null=True, verbose_name="deadline"),
        ),
        migrations.AlterField(
            model_name="job",
            name="id",
            field=models.UUIDField(
                default=notifications.ids.uuid7,
                editable=False,
                primary_key=True,
                serialize=False,
                verbose_name="ID",
            ),
        ),
        migrations.AlterField(
            model_name="notification",
            name="data",
            field=models.TextField(default="{}", editable=False, verbose_name="data"),
        ),
        migrations.AlterField(
            model_name="notification",
            name="id",
            field=models.UUIDField(
                default=notifications.ids.uuid7,
                editable=False,
                primary_key=True,
                serialize=False,
                verbose_name="ID",
            ),
        ),
        migrations.AlterField(
            model_name="notification",
            name="raised",
            field=models.BigIntegerField(editable=False, null=True, verbose_name="first position (raised)"),
        ),
        migrations.AlterField(
            model_name="notification",
            name="seq",
            field=models.BigIntegerField(editable=False, null=True, verbose_name="position (seq)"),
        ),
    ]
