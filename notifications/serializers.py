"""Items: notifications and jobs as JSON. Live frames, replayed frames and HTTP responses all use these functions.

All text is strict JSON without spaces, with non-ASCII characters unescaped. ``docs/reference/protocol.md`` describes
the fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import copy
from typing import Any
from uuid import UUID

from django.db.models import Model

from notifications import paths, times, validators
from notifications.db.unavailable import log_damage
from notifications.extension import hooks
from notifications.models import Job, Notification

#: Shown as the error of a job whose stored error is damaged.
DAMAGED_ERROR = {
    "type": "about:blank",
    "title": "The error cannot be read",
    "detail": "What is stored as the error of this job is damaged. Its attempts may say more.",
}

encode_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")


#: Parse strict JSON. Raises ValueError or RecursionError.
decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def encode_item(row: Any) -> str:
    """Return the item of a row as JSON text. See ``make_item()``."""
    return make_item(row)[1]


def make_item(row: Any) -> tuple[dict[str, Any], str]:
    """Return the item of a row, and the same as JSON text of at most ``validators.MAX_ITEM_BYTES`` bytes.

    The row is a Notification, a Job, or a named tuple with the columns of a notification that its item shows.

    A row that cannot be encoded, which only other programs can write, is shown without what is damaged, and logged: it
    keeps its place in the stream, and does not block other rows and users.
    """
    item, text, defect = _try_encode(row)
    if not defect:
        return item, text
    if not isinstance(row, Model):
        row = Notification(**row._asdict())
    log_damage(f"{row._meta.verbose_name} {row.pk}", defect)
    item = serialize(without_damage(row))
    return item, encode_json(item)


def _try_encode(row: Any) -> tuple[dict[str, Any], str, str]:
    try:
        item = serialize(row)
        text = encode_json(item)
        is_too_large = text_size(text) > validators.MAX_ITEM_BYTES
    except Exception as exc:  # damaged data can raise any error
        return {}, "", f"{type(exc).__name__}: {exc}"
    return item, text, f"its item has more than {validators.MAX_ITEM_BYTES} bytes" if is_too_large else ""


def encode_list(rows: Iterable[Notification | Job], **values: Any) -> str:
    """Return ``{"items": [...], **values}`` as JSON text."""
    return f'{{"items":[{",".join(map(encode_item, rows))}],{encode_json(values)[1:]}'


def encoded_size(texts: Iterable[str]) -> int:
    """Return the number of UTF-8 bytes of these texts, with a comma for each."""
    return sum(1 + text_size(text) for text in texts)


def text_size(text: str) -> int:
    """Return the number of UTF-8 bytes of a text."""
    return len(text) if text.isascii() else len(text.encode())


def serialize(row: Any) -> dict[str, Any]:
    """Return the item of a notification or job as a dict."""
    return serialize_job(row) if isinstance(row, Job) else serialize_notification(row)


def serialize_notification(row: Notification) -> dict[str, Any]:
    """Return the item of a notification. One whose change is not numbered yet has its first seq."""
    return {
        "kind": "notification",
        "id": str(row.id),
        "seq": row.raised if row.seq is None else row.seq,
        "raised": row.raised,
        "level": row.level,
        "category": row.category,
        "title": row.title,
        "body": row.body,
        "url": row.url or None,
        "job": row.job and str(row.job),
        "created_at": times.format_time(row.raised_at),
        "read_at": times.format_time(row.read_at),
        "archived_at": times.format_time(row.archived_at),
        "data": decode_object(row.data),
    }


def serialize_job(row: Job) -> dict[str, Any]:
    """Return the item of a job. One that is active, or not numbered yet, has seq 0."""
    state, done = row.state, row.done
    return {
        "kind": "job",
        "id": str(row.id),
        "seq": row.seq or 0,
        "version": row.version,
        "title": row.title,
        "task": row.task_path,
        "state": state,
        "done": done,
        "attempt": row.attempt,
        "max_attempts": row.max_attempts,
        "progress": None
        if row.progress_current is None
        else {
            "current": row.progress_current,
            "total": row.progress_total,
            "message": row.progress_message,
        },
        "created_at": times.format_time(row.created_at),
        "started_at": times.format_time(row.started_at),
        "finished_at": times.format_time(row.finished_at),
        "run_after": times.format_time(row.run_after),
        "expires_at": times.format_time(row.expiry),
        "error": decode_object(row.error) if row.error else None,
        "url": row.url or None,
        "waiting": serialize_waiting(row) if row.waiting else None,
        "links": {
            "self": _link(row, "api-job"),
            "result": _link(row, "api-job-result") if state == Job.State.SUCCEEDED else None,
            "cancel": None if done else _link(row, "api-job-cancel"),
            "retry": _link(row, "api-job-retry") if row.can_retry else None,
        },
    }


def _link(row: Job, name: str) -> str | None:
    return paths.job_path(row.id, name) or None


def serialize_waiting(row: Job) -> dict[str, Any]:
    """Return what the item of a waiting job says about what it waits for, with links."""
    wait = decode_object(row.waiting)
    kind, id = hooks.find_wait_kind(wait["kind"]), UUID(wait["id"])
    page = kind.page(row.id, id) or paths.job_path(row.id)
    return {**wait, "links": {"answer": kind.answer_path(row.id, id), "page": page}}


def read_data(row: Any) -> dict[str, Any]:
    """Return the data of a notification, ``{}`` if it has none or it is damaged."""
    text = getattr(row, "data", "{}")
    if text == "{}":
        return {}
    try:
        return decode_object(text)
    except (TypeError, ValueError, RecursionError):
        return {}


def decode_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a column. Raises ValueError or RecursionError."""
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text[:50]!r} is no JSON object")
    return value


def job_error(job: Job) -> dict[str, Any] | None:
    """Return the error of a job as a problem object, ``DAMAGED_ERROR`` if it cannot be read, None if there is none."""
    try:
        return decode_object(job.error) if job.error else None
    except (ValueError, RecursionError):
        return DAMAGED_ERROR


def without_damage(row: Notification | Job) -> Notification | Job:
    """Return a copy of a row that can be encoded: text is cut and cleaned, JSON columns are replaced."""
    row = copy(row)
    for field in row._meta.concrete_fields:
        value = row.__dict__.get(field.attname)
        if isinstance(value, str):
            max_length = min(
                getattr(field, "max_length", None) or validators.MAX_BODY_LENGTH, validators.MAX_BODY_LENGTH
            )
            setattr(row, field.attname, value.encode(errors="replace").decode()[:max_length])
    if isinstance(row, Notification):
        row.data = "{}"
        return row
    row.waiting = None
    if row.error:
        row.error = encode_json(DAMAGED_ERROR)
    return row
