from django.db import migrations, models

from notifications.migrations._operations import AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0009_job_statistics"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="job",
            options={
                "default_permissions": ("view", "change"),
                "permissions": [
                    ("view_job_arguments", "Can view the arguments of jobs"),
                    ("view_traceback", "Can view the tracebacks of jobs"),
                ],
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
            },
        ),
        *(
            AddIndex(
                model_name="job",
                index=models.Index(
                    condition=models.Q(state=state),
                    fields=["created_at", "id", "state"],
                    name=f"notifications_job_{state}_at",
                ),
            )
            for state in ("failed", "cancelled")
        ),
        AddIndex(
            model_name="job",
            index=models.Index(fields=["created_at", "id"], name="notifications_job_list"),
        ),
    ]
