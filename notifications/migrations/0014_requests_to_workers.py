from django.db import migrations, models

from notifications.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0013_questions_index"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="alert",
            options={
                "default_permissions": ("view", "change"),
                "permissions": (("receive_alerts", "Can receive alerts"),),
                "verbose_name": "alert",
                "verbose_name_plural": "alerts",
            },
        ),
        migrations.AlterModelOptions(
            name="worker",
            options={
                "default_permissions": ("view", "change"),
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
            },
        ),
        AddField(
            model_name="alert",
            name="acknowledged_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="acknowledged"),
        ),
        AddField(
            model_name="alert",
            name="acknowledged_by",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=150, verbose_name="acknowledged by"
            ),
        ),
        AddField(
            model_name="worker",
            name="request",
            field=models.CharField(
                blank=True,
                choices=[("quiet", "Quiet"), ("stop", "Stop")],
                db_default="",
                default="",
                max_length=10,
            ),
        ),
    ]
