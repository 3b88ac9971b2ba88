from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0001_streams"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Queue",
            fields=[
                (
                    "name",
                    models.CharField(max_length=100, primary_key=True, serialize=False, verbose_name="queue"),
                ),
                ("paused_at", models.DateTimeField(blank=True, null=True, verbose_name="paused")),
            ],
            options={
                "verbose_name": "queue",
                "verbose_name_plural": "queues",
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.AddField(
            model_name="job",
            name="cancelled_by_other",
            field=models.BooleanField(default=False),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "state"],
                name="notifications_job_batch",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(
                condition=models.Q(("user__isnull", False), models.Q(("idempotency_key", ""), _negated=True)),
                fields=("user", "idempotency_key"),
                name="notifications_job_key",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(
                condition=models.Q(("user__isnull", True), models.Q(("idempotency_key", ""), _negated=True)),
                fields=("idempotency_key",),
                name="notifications_job_key_nobody",
            ),
        ),
    ]
