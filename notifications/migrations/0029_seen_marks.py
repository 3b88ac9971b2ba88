import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids
import notifications.times
from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0028_choices_before_mutes"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="SeenMark",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("up_to", models.BigIntegerField()),
                ("at", notifications.times.MomentField()),
                ("browser", models.CharField(blank=True, default="", max_length=100)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["user", "up_to"], name="notifications_seenmark_user"),
                    models.Index(fields=["at"], name="notifications_seenmark_old"),
                ],
            },
        ),
    ]
