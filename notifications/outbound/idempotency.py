"""Idempotency keys: by them the other side knows a request that it has seen already
(https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/)."""

from __future__ import annotations

import re
from hashlib import sha256
from uuid import uuid4, uuid5

from notifications.jobs.enqueueing.owners import running_job

HEADER = "Idempotency-Key"


def key(told: str | bool, method: str, url: str, body: bytes | None) -> str:
    """Return the key to send: the one that is told, or for True a new one.

    In a job the new one follows from the job and the request, so it is the same at another attempt at the job.
    """
    if told is not True:
        if not isinstance(told, str) or not re.fullmatch(r"[\x21-\x7e]{1,200}", told):
            raise ValueError(
                f"idempotency_key is {told!r}. It must be True or 1 to 200 visible ASCII characters."
            )
        return told
    attempt = running_job()
    if attempt is None:
        return str(uuid4())
    request = f"{method} {url} {sha256(body or b'').hexdigest()}"
    attempt.asked[request] += 1
    return str(uuid5(attempt.job, f"{request} {attempt.asked[request]}"))
