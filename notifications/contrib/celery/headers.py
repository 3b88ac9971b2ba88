"""The header of an observed task's message: what its publisher knows about the job.

It is signed, because any process that can write to the broker could otherwise name any user as the owner of a
job, whom the worker would then notify.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from django.core import signing

logger = logging.getLogger("notifications.jobs")

NAME = "notifications"
SALT = "notifications.celery"
#: Seconds after which a header is ignored. A task may be published with an ETA weeks from now.
MAX_AGE_SECONDS = 90 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class JobHeader:
    """The contents of a header.

    ``user``
        The primary key of the owner as a string, or None.
    """

    id: str
    user: str | None
    title: str
    url: str
    language: str


def encode(header: JobHeader) -> str:
    """Return the signed value of a header."""
    return signing.dumps(asdict(header), salt=SALT)


def decode(value: Any, id: str) -> JobHeader | None:
    """Return what a header says about the task with this id.

    None without a header, and for one that is forged, too old, or of another task, which is logged.
    """
    if value is None:
        return None
    try:
        header = JobHeader(**signing.loads(str(value), salt=SALT, max_age=MAX_AGE_SECONDS))
    except (signing.BadSignature, TypeError, ValueError) as exc:
        logger.warning("Ignored the header of Celery task %s: %r", id, exc)
        return None
    if header.id != id:
        logger.warning("Ignored the header of Celery task %s: it was made for task %s", id, header.id)
        return None
    return header
