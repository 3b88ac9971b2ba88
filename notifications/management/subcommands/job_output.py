"""The output of a job, for ``jobs output``: what it has written, and what it writes until it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

from django.core.management.base import CommandError

from notifications.exceptions import JobDoesNotExist
from notifications.jobs.output_parts import read_next

POLL_INTERVAL_SECONDS = 0.5


def no_such_job(job: UUID) -> CommandError:
    return CommandError(
        f"There is no job {job}. It may have been pruned; "
        "`manage.py notifications jobs list` shows the existing ones."
    )


def follow_output(job: UUID) -> Iterator[str]:
    """Yield the output of a job of any user, until the job is done."""
    offset, is_closed = 0, False
    while not is_closed:
        try:
            part = read_next(job, offset)
        except JobDoesNotExist:
            raise no_such_job(job) from None
        offset, is_closed = part.end, part.is_closed
        if part.data:
            yield part.plain_text
        elif not is_closed:
            time.sleep(POLL_INTERVAL_SECONDS)
