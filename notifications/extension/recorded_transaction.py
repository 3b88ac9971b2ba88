"""What hooks know of the transaction that they run in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import translation

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Job, Notification


@dataclass(kw_only=True, slots=True)
class RecordedTransaction:
    """What hooks know of the transaction that they run in.

    ``now``
        The database's time; None where notifications are created that no job makes.
    ``jobs``
        The job that makes a notification, by the id of the notification.
    ``languages``
        The language of its reader, by the id of the notification, where it is known.
    ``has_run``
        Whether jobs that end here were running.
    ``kept``
        What an extension keeps from one hook of the transaction for a later one, by its label. It is empty at the
        beginning of each repetition.
    """

    now: datetime | None = None
    jobs: Mapping[UUID, Job] = field(default_factory=dict)
    languages: Mapping[UUID, str] = field(default_factory=dict)
    has_run: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    def language_of(self, row: Notification) -> str:
        """Return the language in which a notification goes on: that of its job, its reader's, else this thread's."""
        if job := self.jobs.get(row.id):
            return job.language
        return self.languages.get(row.id) or translation.get_language() or ""
