from django.db import migrations, models, router

from notifications.migrations._operations import AddField

#: Streams that one statement updates at most.
MAX_STREAMS_PER_UPDATE = 1_000
#: A stream that was not updated yet. Where nothing is unseen, moving ``seen`` to the head changes no count.
IS_UNSET = "seen = 0 AND unseen = 0 AND head > 0"


def set_seen(apps, schema_editor):
    """Treat everything that users have been notified of as seen, so that no old notification is counted as unseen.

    A few streams at a time, beside writers. Streams that are locked are skipped, and updated afterwards one by one:
    waiting for one of them while holding others would deadlock with numbering.
    """
    db = schema_editor.connection
    if not router.allow_migrate_model(db.alias, apps.get_model("notifications", "Stream")):
        return
    skip_locked = " FOR NO KEY UPDATE SKIP LOCKED" if db.vendor == "postgresql" else ""
    with db.cursor() as cursor:
        for condition, bounds in pages(cursor):
            cursor.execute(
                "UPDATE notifications_stream SET seen = head WHERE user_id IN "
                f"(SELECT user_id FROM notifications_stream WHERE {IS_UNSET}{condition}{skip_locked})",
                bounds,
            )
        cursor.execute(f"SELECT user_id FROM notifications_stream WHERE {IS_UNSET}")
        for (user,) in cursor.fetchall():
            cursor.execute(
                f"UPDATE notifications_stream SET seen = head WHERE user_id = %s AND {IS_UNSET}", [user]
            )


def pages(cursor):
    """Yield conditions, with their parameters, that select ``MAX_STREAMS_PER_UPDATE`` streams each by their keys."""
    after = ""
    bounds: list[object] = []
    while True:
        cursor.execute(
            f"SELECT user_id FROM notifications_stream WHERE true{after} ORDER BY user_id "
            f"LIMIT 1 OFFSET {MAX_STREAMS_PER_UPDATE - 1}",
            bounds,
        )
        last = cursor.fetchone()
        if last is None:
            yield after, bounds
            return
        yield f"{after} AND user_id <= %s", [*bounds, *last]
        after, bounds = " AND user_id > %s", list(last)


class Migration(migrations.Migration):
    # Each statement commits by itself, so that writers never wait for all streams.
    atomic = False

    dependencies = [
        ("notifications", "0011_broadcasts"),
    ]

    operations = [
        *(
            AddField(model_name="stream", name=name, field=models.BigIntegerField(db_default=0, default=0))
            for name in ("seen", "unseen")
        ),
        migrations.RunPython(set_seen, migrations.RunPython.noop),
    ]
