import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from notifications.models import uuid7


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("notifications", "0001_streams"),
    ]

    operations = [
        migrations.CreateModel(
            name="StoredObject",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("job", models.UUIDField(db_index=True, verbose_name="job")),
                ("fence", models.BigIntegerField()),
                ("step", models.CharField(blank=True, max_length=200)),
                ("path", models.CharField(max_length=255)),
                ("name", models.CharField(max_length=150, verbose_name="name")),
                ("size", models.BigIntegerField(null=True, verbose_name="size")),
                ("content_type", models.CharField(max_length=100)),
                ("permission", models.CharField(blank=True, max_length=100)),
                ("kept_seconds", models.BigIntegerField()),
                ("check_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="ResultFile",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("job", models.UUIDField(db_index=True, verbose_name="job")),
                ("path", models.CharField(max_length=255)),
                ("name", models.CharField(max_length=150, verbose_name="name")),
                ("size", models.BigIntegerField(verbose_name="size")),
                ("content_type", models.CharField(max_length=100, verbose_name="content type")),
                ("permission", models.CharField(blank=True, max_length=100, verbose_name="permission")),
                ("created_at", models.DateTimeField(verbose_name="created")),
                ("expires_at", models.DateTimeField(verbose_name="expires")),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "file",
                "verbose_name_plural": "files",
                "default_permissions": (),
                "indexes": [models.Index(fields=["user", "-created_at"], name="notifications_file_of_user")],
            },
        ),
    ]
