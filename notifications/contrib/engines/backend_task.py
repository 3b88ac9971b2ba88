"""The task that other backends of Django's Tasks run for this app."""

from __future__ import annotations

import time

from notifications.jobs import own_task


@own_task(has_backend=False)
def wake(queue: str, backend: str, expires_at: float) -> None:
    """Run jobs of a queue, unless the message is old: another one has followed then."""
    from notifications.contrib.engines import process

    if time.time() < expires_at:
        process.run_in_unknown_process(queue, backend=backend)
