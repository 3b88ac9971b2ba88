from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [("notifications", "0001_streams")]

    operations = [
        migrations.CreateModel(
            name="Limit",
            fields=[
                (
                    "key",
                    models.CharField(max_length=200, primary_key=True, serialize=False, verbose_name="key"),
                ),
                ("name", models.CharField(max_length=50, verbose_name="rate")),
                ("busy_until", models.BigIntegerField(default=0)),
                ("token_interval", models.BigIntegerField(default=0)),
                ("closed_until", models.BigIntegerField(default=0)),
                ("used", models.BigIntegerField(default=0, verbose_name="used")),
                ("window_at", models.BigIntegerField(default=0)),
                ("window_used", models.BigIntegerField(default=0)),
                ("used_at", models.DateTimeField(db_index=True, verbose_name="last used")),
                (
                    "corrected_by",
                    models.CharField(blank=True, default="", max_length=200, verbose_name="corrected by"),
                ),
                ("corrected_at", models.DateTimeField(blank=True, null=True, verbose_name="corrected")),
            ],
            options={
                "verbose_name": "limit",
                "verbose_name_plural": "limits",
                "default_permissions": ("view",),
            },
        ),
    ]
