from django.db import migrations

from notifications.migrations._operations import RemoveIndex

#: What earlier commits stored of observed tasks in columns with another meaning.
MOVES = (
    """
    UPDATE notifications_job
    SET check_at = deadline, missing_since = hand_over_at, deadline = NULL, hand_over_at = NULL
    WHERE state = 'queued' AND lane = 'observed' AND check_at IS NULL AND deadline IS NOT NULL
    """,
    """
    UPDATE notifications_job SET open_until = deadline, deadline = NULL
    WHERE state = 'running' AND worker IS NULL AND open_until IS NULL AND deadline IS NOT NULL
    """,
    *(
        f"""
        UPDATE notifications_job SET expires_at = idempotency_expires_at, broker = idempotency_hash
        WHERE state = '{state}' AND lane = 'observed' AND broker IS NULL AND idempotency_hash <> ''
        """
        for state in ("queued", "running")
    ),
)


class Migration(migrations.Migration):
    # PostgreSQL drops indexes of tables in use concurrently, which it does outside a transaction only.
    atomic = False

    dependencies = [
        ("notifications", "0004_waits"),
    ]

    operations = [
        *(migrations.RunSQL(sql, migrations.RunSQL.noop) for sql in MOVES),
        RemoveIndex(model_name="job", name="notifications_job_observed"),
    ]
