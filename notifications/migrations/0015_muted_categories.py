import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0014_pending_marks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="MutedCategory",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("category", models.CharField(max_length=100, verbose_name="category")),
                ("created_at", models.DateTimeField(verbose_name="created")),
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
                "constraints": [
                    models.UniqueConstraint(
                        fields=["user", "category"], name="notifications_mutedcategory_key"
                    )
                ],
            },
        ),
    ]
