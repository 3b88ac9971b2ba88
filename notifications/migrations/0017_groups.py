from django.db import migrations, models

from notifications.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    # PostgreSQL makes indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0016_broadcast_times"),
    ]

    operations = [
        AddField(
            model_name="notification",
            name="group_key",
            field=models.CharField(blank=True, editable=False, max_length=102, null=True),
        ),
        AddField(
            model_name="pendingmark",
            name="group",
            field=models.CharField(max_length=102, null=True),
        ),
        *(
            AddIndex(
                model_name="notification",
                index=models.Index(
                    condition=models.Q(
                        archived_at__isnull=True, group_key__isnull=False, read_at__isnull=is_unread
                    ),
                    fields=["user", "group_key", "raised"],
                    name=f"notifications_n_group_{'unread' if is_unread else 'read'}",
                ),
            )
            for is_unread in (True, False)
        ),
    ]
