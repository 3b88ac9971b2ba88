from django.db import migrations, models

from notifications.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False  # see exclusively()

    dependencies = [
        ("notifications", "0008_job_handed_over_at"),
    ]

    operations = [
        CreateModel(
            name="JobStatistics",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "period",
                    models.SmallIntegerField(
                        choices=[(1, "Minute"), (2, "Hour"), (3, "Day (UTC)"), (4, "All time")],
                        verbose_name="period",
                    ),
                ),
                ("shard", models.BigIntegerField()),
                ("start", models.BigIntegerField(verbose_name="start")),
                ("queue_name", models.CharField(max_length=100, verbose_name="queue")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("retried", "Attempt retried"),
                            ("timed_out", "Attempt timed out"),
                            ("lost", "Attempt lost"),
                        ],
                        max_length=10,
                        verbose_name="outcome",
                    ),
                ),
                ("count", models.BigIntegerField(verbose_name="count")),
                ("enqueued", models.BigIntegerField(verbose_name="enqueued")),
                ("wait_microseconds", models.BigIntegerField()),
                ("run_microseconds", models.BigIntegerField()),
                *(
                    (f"{name}_{n}", models.BigIntegerField(editable=False, null=True))
                    for name in ("wait", "run")
                    for n in range(28)
                ),
            ],
            options={
                "verbose_name": "job statistics",
                "verbose_name_plural": "job statistics",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("shard__gt", 0)),
                        fields=["shard"],
                        name="notifications_statistics_new",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("period", "shard", "start", "queue_name", "task_path", "outcome"),
                        name="notifications_statistics_key",
                    )
                ],
            },
        ),
    ]
