"""The verbs by which a task makes files.

No model is imported: modules with tasks may be imported before the models are ready.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import IO, Any

from asgiref.sync import sync_to_async

from notifications.extension import require
from notifications.jobs import DurableCall
from notifications.worker import current_execution

#: The label of the app, by which its part of the worker is found.
LABEL = "notifications_files"
#: Bytes that are copied at once.
COPY_BYTES = 1024 * 1024


@contextmanager
def result_file(
    name: str,
    *,
    encoding: str | None = None,
    content_type: str = "",
    keep: timedelta | None = None,
    permission: str = "",
) -> Iterator[IO[Any]]:
    r"""Make a file of the running job, which its owner downloads when the job has succeeded.

    ::

        with result_file("orders.csv", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    ``name``
        As whom it is downloaded, 1 to 150 characters without ``/`` and ``\``. A later file of the job with the same
        name takes its place.
    ``encoding``
        That of a text file, whose ends of lines are written as they are. None: it takes bytes.
    ``content_type``
        By default that of the ending of the name.
    ``keep``
        For how long after the end of the job it can be downloaded, by default 30 days (``FILES["keep_days"]``).
    ``permission``
        Users with this permission, such as ``"shop.view_order"``, may download it too.

    It is written to a temporary file, and at the end of the block to the storage, in parts: no file is whole in memory.
    An error in the block leaves none. The file exists for others from the moment at which the job has succeeded, in one
    transaction: no finished job names a file that is not there. In an attempt that fails, in one that is killed, and
    for a job that fails or is cancelled none stays.

    Raises ``RuntimeError`` outside of a job and inside a transaction, ``ValueError`` for a bad argument, a file over
    ``FILES["max_bytes"]`` or more than 100 files, ``ImproperlyConfigured`` without a storage, and what the storage
    raises.
    """
    # In a transaction that is rolled back nothing would know of the object.
    DurableCall("result_file", may_be_outside=True)
    with _new_draft(
        name, encoding=encoding, content_type=content_type, keep=keep, permission=permission
    ) as draft:
        yield draft.file
        draft.store()


@asynccontextmanager
async def aresult_file(
    name: str,
    *,
    encoding: str | None = None,
    content_type: str = "",
    keep: timedelta | None = None,
    permission: str = "",
) -> AsyncIterator[IO[Any]]:
    """Do what ``result_file()`` does: ``async with``. Writing is sync, and the storage is written to on a thread."""
    with _new_draft(
        name, encoding=encoding, content_type=content_type, keep=keep, permission=permission
    ) as draft:
        yield draft.file
        await sync_to_async(draft.store)()


def add_file(
    name: str,
    source: str | os.PathLike[str] | Iterable[bytes | str],
    *,
    content_type: str = "",
    keep: timedelta | None = None,
    permission: str = "",
) -> None:
    """Make a file of the running job from the path of a file, or from chunks. See ``result_file()``.

    Chunks of text are encoded as UTF-8.
    """
    with result_file(name, content_type=content_type, keep=keep, permission=permission) as file:
        for chunk in _read_chunks(source):
            file.write(chunk)


async def aadd_file(
    name: str,
    source: str | os.PathLike[str] | Iterable[bytes | str] | AsyncIterable[bytes | str],
    *,
    content_type: str = "",
    keep: timedelta | None = None,
    permission: str = "",
) -> None:
    """Do what ``add_file()`` does, also from an async iterable: the chunks of ``outbound.stream()``, for example."""
    async with aresult_file(name, content_type=content_type, keep=keep, permission=permission) as file:
        if isinstance(source, AsyncIterable):
            async for chunk in source:
                file.write(_to_bytes(chunk))
        else:
            read = sync_to_async(partial(next, _read_chunks(source), None))
            while (chunk := await read()) is not None:
                file.write(chunk)


def _new_draft(name: Any, **options: Any) -> Any:
    execution = current_execution()
    if execution is None:
        raise RuntimeError(
            "A file is made by a running job, and no job runs here. Call it from a task, or use Django's storages."
        )
    if LABEL not in execution.parts:
        require("notifications.contrib.files")
    return execution.parts[LABEL].make_draft(execution.job, name, **options)


def _read_chunks(source: Any) -> Iterator[bytes]:
    if isinstance(source, bytes | bytearray):
        raise TypeError("source is bytes. Pass a path, or an iterable of chunks: [data].")
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            while chunk := file.read(COPY_BYTES):
                yield chunk
    else:
        for each in source:
            yield _to_bytes(each)


def _to_bytes(chunk: bytes | str) -> bytes:
    return chunk.encode() if isinstance(chunk, str) else chunk
