import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("notifications", "0001_streams"),
    ]

    operations = [
        migrations.CreateModel(
            name="Schedule",
            fields=[
                (
                    "name",
                    models.CharField(
                        max_length=100, primary_key=True, serialize=False, verbose_name="schedule"
                    ),
                ),
                ("timing", models.CharField(max_length=300, verbose_name="timing")),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                ("created_at", models.DateTimeField(verbose_name="created")),
                ("paused_at", models.DateTimeField(blank=True, null=True, verbose_name="paused")),
                (
                    "paused_by",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "A person"),
                            ("failures", "Failed runs in a row"),
                            ("owner", "The owner is not active"),
                        ],
                        default="",
                        max_length=10,
                    ),
                ),
                ("options", models.TextField(editable=False, null=True)),
                ("title", models.CharField(blank=True, default="", max_length=200, verbose_name="title")),
                ("is_in_owner_zone", models.BooleanField(default=False)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("put_off_until", models.DateTimeField(editable=False, null=True)),
                ("next_tick", models.DateTimeField(blank=True, null=True, verbose_name="next run")),
                ("timed_at", models.DateTimeField(editable=False, null=True)),
                ("last_tick", models.DateTimeField(blank=True, null=True, verbose_name="last tick")),
                ("declared_until", models.DateTimeField(editable=False)),
                (
                    "problem",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("failed", "Failed"),
                            ("given up", "Given up"),
                            ("missed", "Missed"),
                            ("skipped", "Skipped"),
                        ],
                        default="",
                        max_length=10,
                        verbose_name="problem",
                    ),
                ),
                ("problem_since", models.DateTimeField(blank=True, null=True)),
                ("problem_job", models.UUIDField(blank=True, null=True)),
                ("problem_facts", models.TextField(db_default="{}", default="{}", editable=False)),
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
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
                "permissions": [("run_schedule", "Can run a schedule now")],
            },
        ),
        migrations.CreateModel(
            name="Tick",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("due_at", models.DateTimeField(verbose_name="due")),
                ("first_due_at", models.DateTimeField(blank=True, null=True, verbose_name="first due")),
                ("count", models.PositiveBigIntegerField(default=1, verbose_name="count")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("enqueued", "Enqueued"),
                            ("missed", "Missed"),
                            ("skipped", "Skipped"),
                            ("failed", "Not enqueued"),
                        ],
                        max_length=10,
                        verbose_name="outcome",
                    ),
                ),
                ("detail", models.CharField(blank=True, default="", max_length=500, verbose_name="detail")),
                ("is_manual", models.BooleanField(default=False, verbose_name="by hand")),
                ("job", models.UUIDField(blank=True, null=True, verbose_name="job")),
                ("job_state", models.CharField(blank=True, default="", max_length=10, verbose_name="state")),
                ("recorded_at", models.DateTimeField(verbose_name="recorded")),
                (
                    "schedule",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="ticks",
                        to="notifications_schedules.schedule",
                    ),
                ),
            ],
            options={
                "verbose_name": "tick",
                "verbose_name_plural": "ticks",
                "default_permissions": ("view",),
            },
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("options__isnull", False), ("paused_at__isnull", True)),
                fields=["next_tick"],
                name="notifications_schedule_due",
            ),
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("options__isnull", False)),
                fields=["timed_at"],
                name="notifications_schedule_timed",
            ),
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("is_in_owner_zone", True)),
                fields=["name"],
                name="notifications_schedule_zone",
            ),
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(fields=["user", "name"], name="notifications_schedule_user"),
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("options__isnull", True)),
                fields=["name"],
                name="notifications_schedule_decl",
            ),
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("problem", ""), _negated=True),
                fields=["name"],
                name="notifications_schedule_problem",
            ),
        ),
        migrations.AddIndex(
            model_name="tick",
            index=models.Index(
                condition=models.Q(("job_state", ""), ("outcome", "enqueued")),
                fields=["schedule", "id"],
                name="notifications_tick_open",
            ),
        ),
        migrations.AddIndex(
            model_name="tick",
            index=models.Index(fields=["recorded_at"], name="notifications_tick_recorded"),
        ),
        migrations.AddConstraint(
            model_name="tick",
            constraint=models.UniqueConstraint(fields=("schedule", "due_at"), name="notifications_tick_due"),
        ),
    ]
