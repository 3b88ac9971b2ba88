"""What Sentry learns of a failed job: its task as the transaction, its id and its owner."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notifications.models import Job


@contextmanager
def error_scope(job: Job) -> Iterator[None]:
    """Give events of Sentry in the block the job, if this process has Sentry's SDK. The user as its settings allow."""
    sentry: Any = sys.modules.get("sentry_sdk")
    # Version 1 has no such function.
    if (new_scope := getattr(sentry, "new_scope", None)) is None:
        yield
        return
    with new_scope() as scope:
        scope.set_transaction_name(job.task_path, source="task")
        scope.set_tag("job", str(job.id))
        if job.user_id is not None and sentry.get_client().options.get("send_default_pii"):
            scope.set_user({"id": str(job.user_id)})
        yield
