"""Idempotency keys, by which a server recognizes a request that it has already received.

See https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

from __future__ import annotations

import re
from hashlib import sha256
from uuid import uuid4, uuid5

from notifications.context import running_attempt

HEADER = "Idempotency-Key"


def make_key(option: str | bool, method: str, url: str, body: bytes | None) -> str:
    """Return ``option`` if it is a valid key, or a generated key if it is True; raise ValueError otherwise.

    In a job the generated key is derived from the job and the request, so that another attempt at the job sends
    the same key. Equal requests of one attempt are numbered, so that each has a key of its own.
    """
    if option is not True:
        if not isinstance(option, str) or not re.fullmatch(r"[\x21-\x7e]{1,200}", option):
            raise ValueError(
                f"idempotency_key is {option!r}. It must be True or 1 to 200 visible ASCII characters."
            )
        return option
    attempt = running_attempt()
    if attempt is None:
        return str(uuid4())
    request = f"{method} {url} {sha256(body or b'').hexdigest()}"
    attempt.request_counts[request] += 1
    return str(uuid5(attempt.job_id, f"{request} {attempt.request_counts[request]}"))
