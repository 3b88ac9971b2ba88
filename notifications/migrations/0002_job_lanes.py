from django.db import migrations, models
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull

from notifications.migrations._operations import AddField, AddIndex, RemoveIndex, ReplaceIndex


def add_lane_to_index(name, condition, fields):
    old_fields = [field for field in fields if field != "lane"]
    return ReplaceIndex(
        "job",
        models.Index(fields=fields, name=name, condition=condition),
        models.Index(fields=old_fields, name=name, condition=condition),
    )


def add_partition(name, *, unread, archived):
    return AddIndex(
        model_name="notification",
        index=models.Index(
            condition=models.Q(read_at__isnull=unread, archived_at__isnull=not archived),
            fields=["user", "raised"],
            name=f"notifications_n_{name}",
        ),
    )


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0001_streams"),
    ]

    # Each operation makes only what is missing: a database that an unreleased version has migrated to 0007_job_lane or
    # later goes on from there.
    operations = [
        AddField(
            model_name="job",
            name="lane",
            field=models.CharField(
                choices=[("async", "Async"), ("sync", "Sync"), ("suspect", "Suspect")],
                db_default="sync",
                default="sync",
                editable=False,
                max_length=10,
            ),
        ),
        add_lane_to_index(
            "notifications_job_ready",
            models.Q(run_after__isnull=True, state="queued"),
            ["lane", "-priority", "id"],
        ),
        add_lane_to_index(
            "notifications_job_queued",
            models.Q(("state__startswith", "queued")),
            ["queue_name", "lane", "run_after", "-priority", "id"],
        ),
        add_lane_to_index(
            "notifications_job_keyed",
            models.Q(("state__endswith", "queued")),
            ["queue_name", "lane", "concurrency_key", "run_after", "-priority", "id"],
        ),
        # The new indexes first: processes of the previous version are still running, and use the old ones.
        add_partition("inbox_unread", unread=True, archived=False),
        add_partition("inbox_read", unread=False, archived=False),
        add_partition("arch_unread", unread=True, archived=True),
        add_partition("arch_read", unread=False, archived=True),
        AddIndex(
            model_name="notification",
            index=models.Index(
                Coalesce("user", "user"),
                "key",
                condition=models.Q(IsNull(Coalesce("read_at", "archived_at"), True)) & ~models.Q(key=""),
                name="notifications_n_open_key",
            ),
        ),
        *(
            RemoveIndex(model_name="notification", name=f"notifications_n_{name}")
            for name in ("raised", "unread", "inbox", "key")
        ),
        *(
            AddField(model_name="stream", name=name, field=models.BigIntegerField(null=True, editable=False))
            for name in ("read_after", "read_up_to")
        ),
        AddIndex(
            model_name="stream",
            index=models.Index(
                condition=models.Q(read_up_to__isnull=False),
                fields=["user"],
                name="notifications_stream_reading",
            ),
        ),
    ]
