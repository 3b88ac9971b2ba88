"""Functions that create rows in the states that numbering has to handle."""

from notifications.jobs import task_backends
from notifications.models import Job, Notification
from notifications.streams import build_notification
from tests.support.claims import claim_rows
from tests.support.outcomes import record, succeeded


def unnumbered(user, count, **fields):
    """Create committed notifications without a seq, as a process killed after its commit leaves them. Returns ids."""
    rows = [build_notification(user, f"left {number}", **fields) for number in range(count)]
    Notification.objects.bulk_create(rows)
    return [row.pk for row in rows]


def job(user, **fields):
    """Enqueue a job of a user, or without an owner (None). Returns the row."""
    defaults = {
        "title": "Work",
        "task_path": "tests.tasks.nothing",
        "backend": "default",
        "queue_name": "default",
    }
    return task_backends["default"].insert(Job(user_id=getattr(user, "pk", user), **defaults | fields))


def finish_job(row, worker, value=None):
    """Claim a queued job and record its success."""
    (claimed,) = [claimed for claimed in claim_rows(worker, 100) if claimed.pk == row.pk]
    assert record(succeeded(claimed, value))
