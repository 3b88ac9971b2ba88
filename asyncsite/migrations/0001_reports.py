import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Report",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("title", models.CharField(max_length=200, verbose_name="title")),
                ("urls", models.JSONField(default=list, verbose_name="URLs")),
                ("size", models.PositiveIntegerField(verbose_name="number of URLs")),
                ("job_id", models.UUIDField(blank=True, editable=False, null=True, verbose_name="job")),
                ("publication_id", models.UUIDField(blank=True, editable=False, null=True)),
                (
                    "public_token",
                    models.CharField(blank=True, editable=False, max_length=32, null=True, unique=True),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created at"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reports",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "report",
                "verbose_name_plural": "reports",
            },
        ),
        migrations.CreateModel(
            name="Call",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "position",
                    models.PositiveIntegerField(
                        help_text="Place of the URL in the report, from 1.", verbose_name="position"
                    ),
                ),
                ("url", models.CharField(max_length=2000, verbose_name="URL")),
                (
                    "outcome",
                    models.CharField(
                        choices=[("ok", "passed"), ("failed", "failed"), ("refused", "refused")],
                        max_length=10,
                        verbose_name="outcome",
                    ),
                ),
                ("status", models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="status")),
                (
                    "elapsed_ms",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="response time (ms)"),
                ),
                ("bytes", models.PositiveBigIntegerField(blank=True, null=True, verbose_name="bytes")),
                ("content_type", models.CharField(blank=True, max_length=200, verbose_name="content type")),
                ("error", models.CharField(blank=True, max_length=500, verbose_name="error")),
                (
                    "report",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="calls",
                        to="asyncsite.report",
                        verbose_name="report",
                    ),
                ),
            ],
            options={
                "verbose_name": "call",
                "verbose_name_plural": "calls",
                "ordering": ["report", "position"],
            },
        ),
        migrations.CreateModel(
            name="RateLimitEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField()),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["owner", "created_at"], name="asyncsite_rate_recent")],
            },
        ),
        migrations.AddIndex(
            model_name="report",
            index=models.Index(fields=["owner", "-id"], name="asyncsite_report_owner"),
        ),
        migrations.AddIndex(
            model_name="report",
            index=models.Index(fields=["created_at"], name="asyncsite_report_created"),
        ),
        migrations.AddConstraint(
            model_name="call",
            constraint=models.UniqueConstraint(fields=("report", "position"), name="asyncsite_call_once"),
        ),
    ]
