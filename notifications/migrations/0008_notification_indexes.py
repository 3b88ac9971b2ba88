from django.db import migrations, models
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull

from notifications.migrations._indexes import AddIndex, RemoveIndex


def part(name, *, unread, archived):
    return AddIndex(
        model_name="notification",
        index=models.Index(
            condition=models.Q(read_at__isnull=unread, archived_at__isnull=not archived),
            fields=["user", "raised"],
            name=f"notifications_n_{name}",
        ),
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0007_job_lane"),
    ]

    # The new ones first: processes of the version before still run, and use the old ones.
    operations = [
        part("inbox_unread", unread=True, archived=False),
        part("inbox_read", unread=False, archived=False),
        part("arch_unread", unread=True, archived=True),
        part("arch_read", unread=False, archived=True),
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
    ]
