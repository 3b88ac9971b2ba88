"""Idempotency keys, by which a server recognizes a request that it has already received.

See https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

from __future__ import annotations

import re
from hashlib import sha256
from uuid import uuid4, uuid5

from notifications.context import running_attempt, running_step

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
    if key := make_key_of_step():
        return key
    attempt = running_attempt()
    if attempt is None:
        return str(uuid4())
    request = f"{method} {url} {sha256(body or b'').hexdigest()}"
    attempt.request_counts[request] += 1
    return str(uuid5(attempt.job_id, f"{request} {attempt.request_counts[request]}"))


def make_key_of_step() -> str | None:
    """Return the key of the next call in a step of a job, None outside of a step.

    It is derived from the job, the name of the step and the number of the call in it, and not from the request, which
    may hold a time.
    """
    step = running_step()
    if step is None:
        return None
    step.requests += 1
    return str(uuid5(step.job_id, f"step {step.name}\0{step.requests}"))
