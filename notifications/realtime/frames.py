"""What goes over the wire: items, and the frames of the server, as JSON text. The one serializer, for HTTP bodies too.

Every text is strict JSON without spaces, UTF-8 unescaped. ``docs/reference/protocol.md`` says what each frame means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import copy
from datetime import datetime
from typing import Any

from notifications import paths, times, validators
from notifications.db.damaged_rows import log_damage
from notifications.models import Job, Notification
from notifications.realtime.servers.framing import websocket_frame

#: The error of a job whose own cannot be read.
DAMAGED_ERROR = {
    "type": "about:blank",
    "title": "The error cannot be read",
    "detail": "What is stored as the error of this job is damaged. Its attempts may say more.",
}
#: Seconds between two beats.
BEAT = 25
#: Bytes of all items in one frame, which with what is around them stays below 128 KiB; of a snapshot; of active jobs.
FRAME_BYTES = 127 * 1024
SNAPSHOT_BYTES = 64 * 1024
JOBS_BYTES = 48 * 1024
#: Numbers of one frame for which its bytes are kept: more may be of use to a crowd, and each costs as much memory.
MAX_ENCODED = 16
#: What asks for an ack.
ACK = '"ack":true,'

encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")


#: Reads strict JSON. Raises ValueError or RecursionError.
decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def encode_item(row: Notification | Job) -> str:
    """Return the item of a row as JSON text, of at most ``bounds.ITEM`` bytes.

    A row that cannot be encoded, which only other programs write, is shown without what may be the cause, and named in
    the log: it keeps its place in the stream, and costs no other row and no other user theirs.
    """
    try:
        text = encode(item(row))
        if size([text]) <= validators.ITEM + 1:
            return text
        error = f"its item has more than {validators.ITEM} bytes"
    except Exception as exc:  # whatever is in the row
        error = f"{type(exc).__name__}: {exc}"
    log_damage(f"{row._meta.verbose_name} {row.pk}", error)
    return encode(item(_repaired(row)))


def listing(rows: Iterable[Notification | Job], **values: Any) -> str:
    """Return a page of rows, and other values, as JSON text."""
    return f'{{"items":[{",".join(map(encode_item, rows))}],{encode(values)[1:]}'


def item(row: Notification | Job) -> dict[str, Any]:
    """Return the item of a row, as live frames, replayed frames and HTTP bodies have it."""
    return job_item(row) if isinstance(row, Job) else notification_item(row)


def notification_item(row: Notification) -> dict[str, Any]:
    """Return the item of a notification. One that waits for its next number is shown with its first."""
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
        "created_at": rfc3339(row.created_at),
        "read_at": rfc3339(row.read_at),
        "archived_at": rfc3339(row.archived_at),
        "data": json_object(row.data),
    }


def job_item(row: Job) -> dict[str, Any]:
    """Return the item of a job. One that waits for its number, or is active, has seq 0."""
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
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339(row.started_at),
        "finished_at": rfc3339(row.finished_at),
        "run_after": rfc3339(row.run_after),
        "error": json_object(row.error) if row.error else None,
        "url": row.url or None,
        "links": {
            "self": paths.job_path("api-job", row.id),
            "result": paths.job_path("api-job-result", row.id) if state == Job.State.SUCCEEDED else None,
            "cancel": None if done else paths.job_path("api-job-cancel", row.id),
            "retry": paths.job_path("api-job-retry", row.id)
            if state in (Job.State.FAILED, Job.State.CANCELLED)
            else None,
        },
    }


def json_object(text: str) -> dict[str, Any]:
    """Return the object that a column holds as JSON. Raises ValueError or RecursionError."""
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text[:50]!r} is no JSON object")
    return value


def error_of(job: Job) -> dict[str, Any] | None:
    """Return the error of a job, as a person may be shown it; a general one where it cannot be read."""
    try:
        return json_object(job.error) if job.error else None
    except (ValueError, RecursionError):
        return DAMAGED_ERROR


def _repaired(row: Notification | Job) -> Notification | Job:
    """Return a copy of a row whose item can be encoded: texts are cut and cleaned, what must be JSON is replaced."""
    row = copy(row)
    for field in row._meta.concrete_fields:
        value = row.__dict__.get(field.attname)
        if isinstance(value, str):
            clean = value.encode(errors="replace").decode()
            setattr(
                row,
                field.attname,
                clean[: min(getattr(field, "max_length", None) or validators.BODY, validators.BODY)],
            )
    if isinstance(row, Notification):
        row.data = "{}"
    elif row.error:
        row.error = encode(DAMAGED_ERROR)
    return row


def rfc3339(time: datetime | None) -> str | None:
    """Return a time in UTC as RFC 3339 writes it, with ``Z``."""
    if time is None:
        return None
    return times.aware(time).isoformat().replace("+00:00", "Z")


class Frame:
    """A frame that is numbered for each subscriber, and encoded once for all subscribers with the same number."""

    __slots__ = ("_encoded", "_head", "_size", "op", "seq", "tail")

    def __init__(self, op: str, tail: str, seq: int | None = None) -> None:
        """``tail``: the text after ``{"op":…,"n":…,``; ``seq``: the position after it, None if it does not move it."""
        self.op = op
        self.tail = tail
        self.seq = seq
        self._head = f'{{"op":"{op}","n":'
        self._size = len(self._head) + 1 + (len(tail) if tail.isascii() else len(tail.encode()))
        self._encoded: dict[int, bytes] = {}

    def size(self, n: int) -> int:
        """Return the bytes of its text with this number, without ``ack``."""
        return self._size + len(str(n))

    def text(self, n: int, ack: bool) -> str:
        """Return its text with this number; ``ack``: it asks for one."""
        return f"{self._head}{n},{ACK if ack else ''}{self.tail}"

    def encoded(self, n: int, ack: bool) -> bytes:
        """Return the same as a WebSocket frame."""
        key = -n if ack else n
        encoded = self._encoded.get(key)
        if encoded is None:
            if len(self._encoded) >= MAX_ENCODED:
                self._encoded.clear()
            encoded = self._encoded[key] = websocket_frame(self.text(n, ack).encode())
        return encoded


def fit(texts: Iterable[str], limit: int) -> list[str]:
    """Return the first of these texts, as many as fit ``limit`` bytes with their commas; the first one always."""
    kept: list[str] = []
    total = 0
    for text in texts:
        total += size([text])
        if kept and total > limit:
            break
        kept.append(text)
    return kept


def size(texts: Iterable[str]) -> int:
    """Return the bytes of these texts with their commas."""
    return sum(1 + (len(text) if text.isascii() else len(text.encode())) for text in texts)


def welcome(subscriber: str) -> Frame:
    return Frame("welcome", f'"subscriber":{encode(subscriber)},"protocol":1,"beat":{BEAT}}}')


def change(prev: int, seq: int, unread: int, items: list[str]) -> Frame:
    tail = f'"prev":{prev},"seq":{seq},"unread":{unread},"items":[{",".join(items)}]}}'
    return Frame("change", tail, seq)


def jobs(items: list[str]) -> Frame:
    return Frame("jobs", f'"jobs":[{",".join(items)}]}}')


def sync(
    epoch: str, prev: int | None, seq: int, unread: int, items: list[str], jobs: list[str] | None
) -> Frame:
    """A catch-up up to ``seq``: ``prev`` None is a reset; ``jobs`` None says that more follows."""
    start = "null" if prev is None else prev
    reset = "true" if prev is None else "false"
    more = "true" if jobs is None else "false"
    end = "" if jobs is None else f',"jobs":[{",".join(jobs)}]'
    return Frame(
        "sync",
        f'"epoch":{encode(epoch)},"prev":{start},"seq":{seq},"reset":{reset},"more":{more},"unread":{unread},'
        f'"items":[{",".join(items)}]{end}}}',
        seq,
    )


def unnumbered(frame: Frame) -> str:
    """Return the text of a frame for HTTP, where frames have no ``n``."""
    return f'{{"op":"{frame.op}",{frame.tail}'


def beat(seq: int) -> str:
    return f'{{"op":"beat","seq":{seq}}}'
