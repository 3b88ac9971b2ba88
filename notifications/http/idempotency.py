"""The ``Idempotency-Key`` of a request: asked again within a day, it is answered with the job that it got."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django.db import IntegrityError
from django.http import HttpRequest
from django.http.request import RawPostDataException

from notifications.http.requests import reading
from notifications.jobs.enqueueing import unique
from notifications.models import Job
from notifications.problems import Problem
from notifications.validators import KEY

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class KeyTaken(Exception):
    """Another request with this key came first; its job belongs to ``owner`` (key)."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        self.owner = owner


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """What a request of a user (key) says, and a hash of the request."""

    told: str
    hash: str
    asker: Any

    def job(self, owner: Any) -> Job | None:
        """Return the job of this owner (key) that an equal request got. Raises Problem 422 if it was another one."""
        there = unique.job_with_key(owner, self._stored(owner))
        if there is not None and there.idempotency_hash != self.hash:
            raise Problem(
                422,
                "This Idempotency-Key came with another request within the last 24 hours. "
                "Send that request unchanged to repeat it, or this one with a new key.",
            )
        return there

    def give(self, job: Job) -> None:
        """Store the key on a job, unless it has one of its own. Raises ``KeyTaken``."""
        try:
            unique.store_key(job, self._stored(job.user_id), self.hash)
        except IntegrityError as exc:
            raise KeyTaken(job.user_id) from exc

    def _stored(self, owner: Any) -> str:
        """Apart from what ``.using(key=…)`` stores, which has no space: nobody's header may take the key of a program.
        On a job for somebody else it names who asked: keys are each user's own."""
        stored = f"http {self.told}" if owner == self.asker else f"http {self.asker} {self.told}"
        return stored if len(stored) <= KEY else f"http sha256 {sha256(stored.encode()).hexdigest()}"


def key_of(request: Any, asker: Any) -> Key | None:
    """Return the key of a request of a user (key), None without one. ``request`` may be one of DRF's.

    Raises Problem 400 and 413.
    """
    told = request.headers.get("Idempotency-Key")
    if told is None:
        return None
    told = told.strip(" \t")  # no part of it, though some servers leave them
    if not unique.KEY_PATTERN.fullmatch(told):
        raise Problem(
            400,
            f"The Idempotency-Key must be 1 to {KEY} visible ASCII characters without spaces, for example a UUID.",
        )
    with reading():
        return Key(told=told, hash=_hash_of(request), asker=asker)


def _hash_of(request: Any) -> str:
    plain: HttpRequest = getattr(request, "_request", request)
    hash = sha256()
    _add(hash, [plain.method, plain.path, plain.META.get("QUERY_STRING", "")])
    if plain.method == "POST" and plain.content_type in FORM_TYPES:
        # Not its bytes: they are gone once the CSRF check has looked for its token.
        _add_form(hash, plain.POST)
        _add_form(hash, plain.FILES)
        return hash.hexdigest()
    try:
        hash.update(plain.body)
    except RawPostDataException:  # DRF has read it, or the view itself
        _add_parsed(hash, getattr(request, "data", None))
    return hash.hexdigest()


def _add_parsed(hash: Any, data: Any) -> None:
    if hasattr(data, "lists"):
        _add_form(hash, data)
    else:
        _add(hash, data)


def _add_form(hash: Any, fields: Any) -> None:
    for name, values in fields.lists():
        if name == "csrfmiddlewaretoken":  # another one after each sign-in
            continue
        _add(hash, [name, len(values)])
        for value in values:
            if hasattr(value, "chunks"):
                _add_file(hash, value)
            else:
                _add(hash, value)


def _add_file(hash: Any, file: Any) -> None:
    _add(hash, [file.name, file.size])
    if file.closed:
        raise ValueError(
            f"The file {file.name!r} was closed before accepted(), which compares it for the Idempotency-Key. "
            "Leave it open: what wraps it, such as TextIOWrapper, is to be detached."
        )
    at = file.tell()
    for chunk in file.chunks():
        hash.update(chunk)
    file.seek(at)


def _add(hash: Any, value: Any) -> None:
    hash.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
