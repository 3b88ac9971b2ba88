import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models, router, transaction

from notifications.migrations._operations import CreateModel


def move_pending_reads(apps, schema_editor):
    """Move what is left of inboxes that are being marked as read from the streams to the new table."""
    alias = schema_editor.connection.alias
    if not router.allow_migrate_model(alias, apps.get_model("notifications", "PendingMark")):
        return
    with transaction.atomic(using=alias), schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_pendingmark (user_id, verb, moment, level, after, up_to) "
            "SELECT user_id, 'read', CURRENT_TIMESTAMP, '', read_after, read_up_to FROM notifications_stream "
            "WHERE read_up_to IS NOT NULL"
        )
        cursor.execute(
            "UPDATE notifications_stream SET read_after = NULL, read_up_to = NULL WHERE read_up_to IS NOT NULL"
        )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0013_jobs_of_user"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="PendingMark",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("verb", models.CharField(max_length=10)),
                ("moment", models.DateTimeField()),
                ("category", models.CharField(max_length=100, null=True)),
                ("level", models.CharField(blank=True, default="", max_length=10)),
                ("after", models.BigIntegerField()),
                ("up_to", models.BigIntegerField()),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["user"], name="notifications_pendingmark_user")],
            },
        ),
        migrations.RunPython(move_pending_reads, migrations.RunPython.noop),
        # The columns stay in the database: processes of the previous version, which run on while a new one is deployed,
        # read them every second.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveIndex(model_name="stream", name="notifications_stream_reading"),
                migrations.RemoveField(model_name="stream", name="read_after"),
                migrations.RemoveField(model_name="stream", name="read_up_to"),
            ]
        ),
    ]
