"""Read the output of jobs, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Q, Subquery

from notifications.contrib.output.models import OutputChunk
from notifications.contrib.output.storage import MARK
from notifications.db import database
from notifications.exceptions import JobDoesNotExist
from notifications.models import Job

#: Bytes of a part, but for the rest of its last chunk, and chunks that are read for it.
MAX_PART_BYTES, MAX_PART_CHUNKS = 240 * 1024, 2_000
#: What lines of the app begin with for operators, in place of ``MARK``.
PLAIN_MARK = "--- "


@dataclass(frozen=True, kw_only=True)
class OutputPart:
    """The output of a job from ``start`` to ``end``, in bytes.

    ``is_last``
        Nothing follows now.
    ``is_closed``
        Nothing follows any more, because the job is done. A retry by hand may go on.
    """

    start: int
    data: bytes
    is_last: bool
    is_closed: bool

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @cached_property
    def text(self) -> str:
        return self.data.decode()

    @cached_property
    def event(self) -> bytes:
        """The Server-Sent Event of the data, which is encoded once for all readers."""
        # Lines end with \n only, as they are stored. Readers take away the first space of a line.
        lines = (b"\n" + self.data).replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
        return b"event: data" + lines + b"\n\n"

    @property
    def plain_text(self) -> str:
        """The text for operators: lines of the app begin with ``PLAIN_MARK``."""
        return self.text.replace(MARK, PLAIN_MARK)


def format_offset(offset: int) -> str:
    """Return an offset as the protocol has it, where offsets are compared as strings."""
    return f"{offset:016d}"


def has_output(job: UUID) -> bool:
    return OutputChunk.objects.using(database()).filter(job=job).exists()


def read_span(job: UUID) -> tuple[datetime, datetime, int] | None:
    """Return when the first and the last chunk of a job were stored, and the bytes of all; None if there are none."""
    rows = OutputChunk.objects.using(database()).filter(job=job)
    last = rows.order_by("-start").values("start")[:1]
    found = list(rows.filter(Q(start=0) | Q(start=Subquery(last))).order_by("start"))
    if not found:
        return None
    return found[0].created_at, found[-1].created_at, found[-1].start + len(found[-1].text.encode())


def read_parts(user: Any, job: UUID, offsets: Iterable[int]) -> dict[int, OutputPart]:
    """Return the parts of a job of a user (key) from these offsets, at each of which a chunk begins or the output ends.

    Raises ``JobDoesNotExist``.
    """
    # Before the chunks: the last of them and the end of the job are stored in one transaction.
    is_done = _is_done(job, user=user)
    return {offset: _read_part(job, offset, 0, is_done) for offset in offsets}


def read_part(user: Any, job: UUID, offset: int | None) -> OutputPart:
    """Return the part of a job of a user (key) from any offset, or with None that at the end, which is empty.

    Raises ``JobDoesNotExist``, and ValueError for an offset beyond the end or inside a character.
    """
    is_done = _is_done(job, user=user)
    chunks = OutputChunk.objects.using(database()).filter(job=job).order_by("-start")
    chunk = (chunks if offset is None else chunks.filter(start__lte=offset)).first()
    end = chunk.start + len(chunk.text.encode()) if chunk else 0
    if offset is None:
        return OutputPart(start=end, data=b"", is_last=True, is_closed=is_done)
    if offset > end:
        raise ValueError("The offset is beyond the end of the output.")
    if chunk is None or offset == end:
        return _read_part(job, end, 0, is_done)
    part = _read_part(job, chunk.start, offset - chunk.start, is_done)
    if part.data[0] & 0xC0 == 0x80:
        raise ValueError("The offset is inside a character.")
    return part


def read_next(job: UUID, offset: int) -> OutputPart:
    """Return the part of a job of any user, for operators, from an offset as in ``read_parts()``.

    Raises ``JobDoesNotExist``.
    """
    return _read_part(job, offset, 0, _is_done(job))


def read_end(job: UUID, max_bytes: int, mark: str = PLAIN_MARK) -> tuple[str, bool]:
    """Return about this much of the end of the output of a job of any user, and whether there is more before it.

    It begins with a whole line if it has several. ``mark`` is what lines of the app begin with, by default for
    operators.
    """
    rows = OutputChunk.objects.using(database()).filter(job=job).order_by("-start")
    last = rows.values_list("start", flat=True).first()
    if last is None:
        return "", False
    chunks = rows.filter(start__gt=last - max_bytes).values_list("start", "text")[:MAX_PART_CHUNKS]
    starts, texts = zip(*reversed(chunks), strict=True)
    text = "".join(texts).replace(MARK, mark)
    return (text[text.find("\n") + 1 :], True) if starts[0] else (text, False)


def _is_done(job: UUID, **owner: Any) -> bool:
    row = Job.objects.using(database()).filter(pk=job, **owner).only("state").first()
    if row is None:
        raise JobDoesNotExist(job)
    return bool(row.done)


def _read_part(job: UUID, start: int, skip: int, is_done: bool) -> OutputPart:
    """Return the part that begins with the chunk at ``start``, without its first bytes."""
    until = start + MAX_PART_BYTES
    rows = OutputChunk.objects.using(database()).filter(job=job, start__gte=start, start__lt=until)
    texts = list(rows.order_by("start").values_list("text", flat=True)[:MAX_PART_CHUNKS])
    data = "".join(texts).encode()
    is_last = len(texts) < MAX_PART_CHUNKS and len(data) < MAX_PART_BYTES
    return OutputPart(start=start + skip, data=data[skip:], is_last=is_last, is_closed=is_done and is_last)
