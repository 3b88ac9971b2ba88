from django.db import migrations, models
from django.db.models import Q

#: The indexes that name a renamed field: their fields and conditions. In the database they stay as they are.
INDEXES = (
    ("ready", ("executor", "-priority", "id"), Q(state="queued", run_after__isnull=True)),
    ("queued", ("queue_name", "executor", "run_after", "-priority", "id"), Q(state__startswith="queued")),
    (
        "keyed",
        ("queue_name", "executor", "concurrency_key", "run_after", "-priority", "id"),
        Q(state__endswith="queued"),
    ),
    (
        "resumed",
        ("queue_name", "executor", "run_after", "-priority", "id"),
        Q(held_key_limit__isnull=False, state__contains="queued"),
    ),
    ("handed", ("next_dispatch_at", "id"), Q(state="queued", executor="handed")),
    ("check", ("check_at", "id"), Q(state="queued", executor="observed")),
)
FIELDS = (
    (
        "lane",
        "executor",
        models.CharField(
            choices=[
                ("async", "Async"),
                ("sync", "Sync"),
                ("suspect", "Quarantined"),
                ("engine", "For an engine"),
                ("handed", "Dispatched to an engine"),
                ("isolated", "Quarantined"),
                ("observed", "Observed"),
            ],
            db_column="lane",
            db_default="sync",
            default="sync",
            editable=False,
            max_length=10,
        ),
    ),
    (
        "hand_over_at",
        "next_dispatch_at",
        models.DateTimeField(blank=True, db_column="hand_over_at", editable=False, null=True),
    ),
    (
        "handed_over_at",
        "dispatched_at",
        models.DateTimeField(
            blank=True,
            db_column="handed_over_at",
            editable=False,
            null=True,
            verbose_name="handed over since",
        ),
    ),
    (
        "handovers",
        "dispatch_count",
        models.PositiveIntegerField(
            db_column="handovers", db_default=0, default=0, editable=False, verbose_name="handed over"
        ),
    ),
)


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0017_groups"),
    ]

    # The columns keep their names: processes of the previous version go on to use them.
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                *(migrations.RemoveIndex("job", f"notifications_job_{name}") for name, _, _ in INDEXES),
                *(migrations.RenameField("job", former, name) for former, name, _ in FIELDS),
                *(migrations.AlterField("job", name, field) for _, name, field in FIELDS),
                *(
                    migrations.AddIndex(
                        "job",
                        models.Index(fields=fields, condition=condition, name=f"notifications_job_{name}"),
                    )
                    for name, fields, condition in INDEXES
                ),
            ]
        ),
    ]
