"""The ``Idempotency-Key`` of a request: an equal request with the same key gets the same job for 24 hours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django.db import IntegrityError
from django.http import HttpRequest
from django.http.request import RawPostDataException

from notifications.http.parsing import body_errors_as_problems
from notifications.jobs.enqueueing import unique
from notifications.models import Job
from notifications.problems import Problem
from notifications.validators import MAX_KEY_LENGTH

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class IdempotencyKeyTaken(Exception):
    """Another request has stored this key first, on a job of ``owner`` (key)."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        self.owner = owner


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """The key that ``requester`` (user key) sent, with a hash of the request that came with it."""

    value: str
    request_hash: str
    requester: Any

    def find_job(self, owner: Any) -> Job | None:
        """Return the job of this owner (key) that has the key. Raises Problem 422 if it came with another request."""
        job = unique.job_with_key(owner, self._stored_key(owner))
        if job is not None and job.idempotency_hash != self.request_hash:
            raise Problem(
                422,
                "This Idempotency-Key was used for a different request within the last "
                f"{unique.KEY_LIFETIME_HOURS} hours. "
                "Send that request unchanged to repeat it, or this one with a new key.",
            )
        return job

    def store_on(self, job: Job) -> None:
        """Store the key on a job, unless it has one from ``.using(key=…)``. Raises ``IdempotencyKeyTaken``."""
        try:
            unique.store_key(job, self._stored_key(job.user_id), self.request_hash)
        except IntegrityError as exc:
            raise IdempotencyKeyTaken(job.user_id) from exc

    def _stored_key(self, owner: Any) -> str:
        """Return the key as the job's column holds it.

        The prefix has a space, which keys of ``.using(key=…)`` cannot have, so no header can take such a key. On a job
        of another owner the requester is part of it: two requesters with the same key do not conflict.
        """
        stored = f"http {self.value}" if owner == self.requester else f"http {self.requester} {self.value}"
        return (
            stored if len(stored) <= MAX_KEY_LENGTH else f"http sha256 {sha256(stored.encode()).hexdigest()}"
        )


def read_idempotency_key(request: Any, requester: Any) -> IdempotencyKey | None:
    """Return the key of a request that ``requester`` (user key) sent, None without one.

    ``request`` may be one of Django REST framework. Raises Problem 400 or 413.
    """
    value = request.headers.get("Idempotency-Key")
    if value is None:
        return None
    value = value.strip(" \t")  # not part of a header's value, but some servers leave them
    if not unique.KEY_PATTERN.fullmatch(value):
        raise Problem(
            400,
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} visible ASCII characters without spaces, for example "
            "a UUID.",
        )
    with body_errors_as_problems():
        return IdempotencyKey(value=value, request_hash=_hash_request(request), requester=requester)


def _hash_request(request: Any) -> str:
    django_request: HttpRequest = getattr(request, "_request", request)
    hash = sha256()
    _add_json(hash, [django_request.method, django_request.path, django_request.META.get("QUERY_STRING", "")])
    if django_request.method == "POST" and django_request.content_type in FORM_TYPES:
        # Fields instead of bytes: the CSRF check has parsed the form, and its bytes are gone.
        _add_form(hash, django_request.POST)
        _add_form(hash, django_request.FILES)
        return hash.hexdigest()
    try:
        hash.update(django_request.body)
    except RawPostDataException:  # Django REST framework or the view has read the stream
        _add_parsed(hash, getattr(request, "data", None))
    return hash.hexdigest()


def _add_parsed(hash: Any, data: Any) -> None:
    if hasattr(data, "lists"):
        _add_form(hash, data)
    else:
        _add_json(hash, data)


def _add_form(hash: Any, fields: Any) -> None:
    for name, values in fields.lists():
        if name == "csrfmiddlewaretoken":  # changes with every sign-in
            continue
        _add_json(hash, [name, len(values)])
        for value in values:
            if hasattr(value, "chunks"):
                _add_file(hash, value)
            else:
                _add_json(hash, value)


def _add_file(hash: Any, file: Any) -> None:
    _add_json(hash, [file.name, file.size])
    if file.closed:
        raise ValueError(
            f"The file {file.name!r} was closed before accepted(), which reads it for the Idempotency-Key. "
            "Leave it open: detach a wrapper such as TextIOWrapper after use."
        )
    position = file.tell()
    for chunk in file.chunks():
        hash.update(chunk)
    file.seek(position)


def _add_json(hash: Any, value: Any) -> None:
    hash.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
