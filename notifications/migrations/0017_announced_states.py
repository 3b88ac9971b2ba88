import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from notifications.migrations._operations import AddField, CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0016_field_labels"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="AnnouncedState",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("topic", models.CharField(max_length=200)),
                ("state", models.CharField(max_length=20)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=["topic", "user"], name="notifications_announcedstate_key")
                ],
            },
        ),
        AddField(
            model_name="alert",
            name="facts",
            field=models.TextField(db_default="{}", default="{}", editable=False),
        ),
        AddField(
            model_name="schedule",
            name="problem_facts",
            field=models.TextField(db_default="{}", default="{}", editable=False),
        ),
        migrations.AlterField(
            model_name="schedule",
            name="problem",
            field=models.CharField(
                blank=True,
                choices=[("failed", "Failed"), ("missed", "Missed"), ("skipped", "Skipped")],
                default="",
                max_length=10,
                verbose_name="problem",
            ),
        ),
    ]
