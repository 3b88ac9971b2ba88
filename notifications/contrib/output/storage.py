"""Store what running jobs write, in chunks: of many jobs in one transaction, and the last of it with their ends."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING
from uuid import UUID

from notifications import streams, validators
from notifications.contrib.output.api import LABEL
from notifications.contrib.output.models import OutputChunk
from notifications.db import database, insert_rows, retrying_atomic
from notifications.extension import WorkerPart
from notifications.models import Job
from notifications.worker import lock_claims, wait_for_event

if TYPE_CHECKING:
    from notifications.extension import RecordedTransaction
    from notifications.jobs import Outcome
    from notifications.worker import Execution, WorkerState

logger = logging.getLogger("notifications.jobs")

#: Begins the lines that are not written by the task, which cannot write this character itself: RECORD SEPARATOR.
MARK = "\x1e"
#: The line that ends an output of which the rest was dropped.
CUT = f"\n{MARK}cut\n".encode()
#: Bytes that are stored of a job, all its attempts together, without the lines that are not written by the task.
MAX_OUTPUT_BYTES = 1024 * 1024
#: Bytes of a row, and of all rows that one transaction stores of jobs that go on.
MAX_CHUNK_BYTES, MAX_BYTES_PER_TRANSACTION = 8 * 1024, 256 * 1024

#: How many bytes of an execution may be left for the transaction that ends it.
MAX_LAST_BYTES = 2 * MAX_CHUNK_BYTES
#: Seconds for which output is collected into one transaction, unless a job has written a chunk before.
FLUSH_INTERVAL_SECONDS = 0.1
#: Jobs whose output one transaction stores.
MAX_JOBS_PER_TRANSACTION = 50

#: The attribute of the claimed row of a job that has the buffer of its execution. It is no field of the model.
_BUFFER = "_notifications_output_buffer"


class OutputBuffer:
    """What an execution has written and is not stored yet. Any thread appends, one at a time stores.

    ``start``
        Where ``_data`` begins in the output of the job; None until the first transaction that stores something.
    ``is_settled``
        Whether it is known which of ``_data`` is stored: not while a transaction may have been committed.
    """

    __slots__ = ("_data", "_is_cut", "_lock", "_newlines", "is_closed", "is_settled", "start")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data = bytearray()
        self._newlines = IncrementalNewlineDecoder(None, translate=True)
        self._is_cut = False
        self.start: int | None = None
        self.is_settled = False
        #: Nothing is stored any more: the claim is void.
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._data)

    def append(self, text: str) -> None:
        with self._lock:
            # In pieces, so that a text much longer than the limit is not copied. One piece may not reach the limit,
            # because CR LF becomes one character.
            size = MAX_OUTPUT_BYTES + 1
            for start in range(0, len(text), size):
                if self._is_cut or self.is_closed:
                    return
                self._add(self._newlines.decode(text[start : start + size]))  # type: ignore[arg-type]

    def finish(self) -> None:
        """Append what waited for the next text: a CR that ends the last one."""
        with self._lock:
            self._add(self._newlines.decode("", final=True))  # type: ignore[arg-type]

    def settle(self, job: Job) -> None:
        """Find out where the output of the job ends, and which of the data is stored already.

        The caller's transaction holds the row of the job locked.
        """
        if self.is_settled:
            return
        rows = OutputChunk.objects.using(database()).filter(job=job.id).order_by("-start")
        last = rows.first() if job.fence > 1 or self.start is not None else None
        end: int = last.start + len(last.text.encode()) if last else 0
        with self._lock:
            if self.start is None:
                if last and last.text.endswith(CUT.decode()):
                    self._close()
                elif last and last.fence != job.fence:
                    self._data[:0] = _mark(job, last)
            elif last and last.fence == job.fence:  # the answer to an earlier commit was lost
                del self._data[: end - self.start]
            self.start, self.is_settled = end, True
            self._cut_to_limit()

    def read_chunks(self, job: Job, now: datetime, max_bytes: int | None) -> list[OutputChunk]:
        """Return rows for the first of the data, to be inserted by the caller's transaction."""
        chunks = []
        with self._lock:
            assert self.start is not None
            at, until = 0, len(self._data) if max_bytes is None else _boundary(self._data, max_bytes)
            while at < until:
                end = min(until, _boundary(self._data, at + MAX_CHUNK_BYTES))
                chunks.append(
                    OutputChunk(
                        job=job.id,
                        start=self.start + at,
                        text=self._data[at:end].decode(),
                        attempt=job.attempt,
                        fence=job.fence,
                        created_at=now,
                    )
                )
                at = end
        return chunks

    def drop(self, chunks: Sequence[OutputChunk]) -> None:
        """Remove what is stored, after the commit."""
        with self._lock:
            if chunks:
                if chunks[0].start != self.start:
                    return  # this thread hung in its commit, and ``settle()`` has found the chunks meanwhile
                size = sum(len(chunk.text.encode()) for chunk in chunks)
                del self._data[:size]
                self.start = chunks[0].start + size
            self.is_settled = True

    def dump(self) -> str:
        """Return, for ``load()``, what is not stored yet; "" if all is."""
        with self._lock:
            return json.dumps([self.start, self._data.decode()]) if self._data else ""

    def load(self, text: str) -> None:
        """Have what another buffer of the same execution has returned."""
        self.start, data = json.loads(text)
        self._data[:] = data.encode()

    def close(self) -> None:
        """Take no more text, and forget what is not stored."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._data.clear()
        self.is_closed = True

    def _add(self, text: str) -> None:
        if self._is_cut or self.is_closed:
            return
        self._data += validators.printable(text.replace(MARK, "\ufffd")).encode()
        self._cut_to_limit()

    def _cut_to_limit(self) -> None:
        """Replace what is beyond the limit by a line that says so."""
        room = max(0, MAX_OUTPUT_BYTES - (self.start or 0))
        size = len(self._data) - (len(CUT) if self._is_cut else 0)
        if size > room:
            self._data[_boundary(self._data, room) :] = CUT
            self._is_cut = True


#: Chunks that a transaction inserts, by buffer.
Stored = list[tuple[OutputBuffer, list[OutputChunk]]]


def find_buffer(job: Job) -> OutputBuffer | None:
    """Return the buffer of the execution whose claimed row this is, None if it has written nothing."""
    return job.__dict__.get(_BUFFER)


def buffer_of(job: Job) -> OutputBuffer:
    """Return the same, created by the first call; from any thread."""
    buffer = job.__dict__.get(_BUFFER)
    # ``setdefault()`` is atomic: two threads get the same buffer.
    return job.__dict__.setdefault(_BUFFER, OutputBuffer()) if buffer is None else buffer


def store_output(jobs: Iterable[Job]) -> list[Job]:
    """Store what running jobs have written, in one transaction, conditional on the fence and state of each.

    Returns the jobs of which something is left, because another transaction holds the row locked, or it is much.
    """
    written = [job for job in jobs if find_buffer(job)]
    stored: Stored = []

    def write() -> None:
        stored.clear()
        claims = lock_claims(written)
        for job in filter(claims.is_void, written):
            buffer_of(job).close()
        valid = [job for job in written if job.id in claims.rows and not claims.is_void(job)]
        stored.extend(_read(valid, claims.now, MAX_BYTES_PER_TRANSACTION // len(written)))
        insert_rows([chunk for _, chunks in stored for chunk in chunks])
        streams.ring(job.user_id for job in valid)

    if written:
        retrying_atomic(write)
        drop_stored(stored)
    return [job for job in written if buffer_of(job)]


def read_last_output(outcomes: Iterable[Outcome], tx: RecordedTransaction) -> list[OutputChunk]:
    """Return what attempts have written and is not stored yet, to be inserted with their outcomes.

    See ``Extension.on_attempts()``. ``drop_stored()`` gets the chunks after the commit.
    """
    written = []
    kept = tx.kept.pop(LABEL, "")
    for outcome in outcomes:
        if kept:  # this is called later, for one outcome
            buffer_of(outcome.job).load(kept)
        if (buffer := outcome.job.__dict__.get(_BUFFER)) is not None:
            buffer.finish()
            if buffer:
                written.append(outcome.job)
    if not written:
        return []
    assert tx.now is not None
    stored = tx.kept[LABEL] = _read(written, tx.now, None)
    return [chunk for _, chunks in stored for chunk in chunks]


def keep_last_output(outcome: Outcome) -> str:
    """Return what ``read_last_output()`` will find where it is called later. See ``Extension.keep_for_later()``."""
    if (buffer := find_buffer(outcome.job)) is None:
        return ""
    buffer.finish()
    return buffer.dump()


def drop_stored(stored: Stored) -> None:
    """Remove what a transaction has stored from the buffers, after its commit."""
    for buffer, chunks in stored:
        buffer.drop(chunks)


def _read(jobs: Iterable[Job], now: datetime, max_bytes: int | None) -> Stored:
    stored = []
    for job in jobs:
        buffer = buffer_of(job)
        buffer.settle(job)
        stored.append((buffer, buffer.read_chunks(job, now, max_bytes)))
        buffer.is_settled = False
    return stored


def _mark(job: Job, last: OutputChunk) -> bytes:
    """Return the line that begins what an execution writes after another one."""
    kind = f"attempt {job.attempt}" if job.attempt > last.attempt else "continued"
    return f"\n{MARK}{kind}\n".encode()


def _boundary(data: bytearray, at: int) -> int:
    """Return the last position up to ``at`` at which a character begins, or the end of the data."""
    if at >= len(data):
        return len(data)
    while data[at] & 0xC0 == 0x80:
        at -= 1
    return at


class OutputLoop(WorkerPart):
    """Stores the output of all jobs that wrote any, in one transaction each interval."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        #: The jobs whose output is not stored yet.
        self._jobs: dict[tuple[UUID, int], Job] = {}
        self._has_output = asyncio.Event()
        self._has_much = asyncio.Event()
        self._has_stored = asyncio.Event()

    def add(self, execution: Execution, text: str) -> None:
        """Take text that a job has written, from any thread."""
        job = execution.job
        buffer = buffer_of(job)
        buffer.append(text)
        self._jobs[(job.id, job.fence)] = job
        if not self._has_output.is_set():
            self._state.call_in_loop(self._has_output.set)
        if len(buffer) >= MAX_CHUNK_BYTES and not self._has_much.is_set():
            self._state.call_in_loop(self._has_much.set)

    async def run(self) -> None:
        while True:
            await self._has_output.wait()
            await wait_for_event(self._has_much, FLUSH_INTERVAL_SECONDS)
            self._has_output.clear()
            self._has_much.clear()
            # Taken out one by one, because other threads add to the dict meanwhile.
            jobs = [self._jobs.pop(claim) for claim in list(self._jobs)[:MAX_JOBS_PER_TRANSACTION]]
            left = jobs
            try:
                written = await self._state.write_group(store_output, jobs, _drop_refused)
                left = [job for part in written for job in part]
            finally:
                for job in left:
                    self._jobs.setdefault((job.id, job.fence), job)
                    if len(buffer_of(job)) >= MAX_CHUNK_BYTES:
                        self._has_much.set()
                if self._jobs:
                    self._has_output.set()
            self._has_stored.set()
            self._has_stored = asyncio.Event()

    async def before_outcome(self, job: Job) -> None:
        """Store what a job has written, until little enough is left for the transaction that records its outcome."""
        buffer = find_buffer(job)
        while buffer is not None and len(buffer) > MAX_LAST_BYTES:
            self._has_much.set()
            await self._has_stored.wait()


def _drop_refused(job: Job, exc: Exception) -> list[Job]:
    logger.error("Dropped the output of job %s, which could not be stored", job.id, exc_info=exc)
    buffer_of(job).close()
    return []


class InlineOutput(WorkerPart):
    """Keeps what jobs write that run inline, until it is stored with the end of its attempt."""

    def add(self, execution: Execution, text: str) -> None:
        buffer_of(execution.job).append(text)


def make_worker_part(state: WorkerState | None) -> OutputLoop | InlineOutput:
    """Return what stores output in a worker, or without one where jobs run inline."""
    return OutputLoop(state) if state else InlineOutput()
