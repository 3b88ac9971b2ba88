from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0008_notification_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="stream",
            name=name,
            field=models.BigIntegerField(null=True, editable=False),
        )
        for name in ("read_after", "read_up_to")
    ]
