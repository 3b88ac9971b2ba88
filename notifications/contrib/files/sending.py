"""The response to a download: its headers, a range of it (RFC 9110, section 14), and who sends the bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.core.files.storage import Storage
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.http import content_disposition_header

from notifications.contrib.files.declarations import (
    REDIRECT,
    SENDFILE_HEADERS,
    find_storage,
    read_settings,
)
from notifications.contrib.files.models import ResultFile

#: Bytes that are read at once.
CHUNK_BYTES = 256 * 1024
#: The modules of django-storages whose classes sign the name and the content type of a download.
_SIGNING = ("storages.backends.s3", "storages.backends.s3boto3")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


def send(row: ResultFile, request: HttpRequest) -> HttpResponseBase:
    """Return the response with a file. Raises what the storage raises, ``FileNotFoundError`` for one that is gone."""
    options, storage = read_settings(), find_storage()
    if options.send_by == REDIRECT:
        return HttpResponseRedirect(_signed_url(storage, row))
    if options.send_by in SENDFILE_HEADERS:
        response: HttpResponseBase = HttpResponse()
        is_accel = options.send_by == SENDFILE_HEADERS[0]
        # All of these servers decode it.
        path = options.internal_url + row.path if is_accel else storage.path(row.path)
        response[options.send_by] = quote(path)
    else:
        response = _respond(row, request, storage)
    if response.status_code != 416:
        response["Content-Type"] = row.content_type
        # Never inline: HTML of a task would run as a page of the site.
        response["Content-Disposition"] = _disposition(row)
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _respond(row: ResultFile, request: HttpRequest, storage: Storage) -> HttpResponseBase:
    """Return the response whose bytes this process sends."""
    etag = f'"{row.id}"'
    bounds = _find_range(request, row.size, etag)
    start, end = bounds or (0, row.size)
    if start >= end and bounds:
        response: HttpResponseBase = HttpResponse(status=416)
        response["Content-Range"] = f"bytes */{row.size}"
        return response
    if request.method == "HEAD":
        response = HttpResponse()
    else:
        # Django would read a sync iterator to its end first if an ASGI server calls it.
        part = _AsyncPart if hasattr(request, "scope") else _SyncPart
        response = StreamingHttpResponse(part(storage.open(row.path, "rb"), start, end))
    response["Content-Length"] = str(end - start)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag
    if bounds:
        response.status_code = 206
        response["Content-Range"] = f"bytes {start}-{end - 1}/{row.size}"
        # GZipMiddleware leaves alone what has an encoding. A compressed part could not be added to the others.
        response["Content-Encoding"] = "identity"
    return response


def _disposition(row: ResultFile) -> str:
    return str(content_disposition_header(True, row.name))


def _signed_url(storage: Any, row: ResultFile) -> str:
    """Return the URL of a file in its storage. That of S3 says its name and content type, too."""
    if any(base.__module__ in _SIGNING for base in type(storage).__mro__):
        names = {
            "ResponseContentDisposition": _disposition(row),
            "ResponseContentType": row.content_type,
        }
        return str(storage.url(row.path, parameters=names))
    return str(storage.url(row.path))


def _find_range(request: HttpRequest, size: int, etag: str) -> tuple[int, int] | None:
    """Return the first byte of the range that a request asks for and the one after its last, None for all bytes.

    (0, 0) is a range outside of the file. Several ranges, and a form that is none, are ignored, as they may be.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if not size or match is None or not any(match.groups()):
        return None
    if request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        return (max(0, size - int(last)), size) if int(last) else (0, 0)
    if last and int(last) < int(first):
        return None
    start, end = int(first), min(size, int(last) + 1 if last else size)
    return (start, end) if start < size else (0, 0)


@dataclass
class _Part:
    """The bytes of a file from ``start`` to ``end``. The response closes it, also if it was never read."""

    file: IO[bytes]
    start: int
    end: int

    def close(self) -> None:
        self.file.close()

    def read(self) -> Iterator[bytes]:
        position = self.file.seek(self.start)
        while position < self.end and (chunk := self.file.read(min(CHUNK_BYTES, self.end - position))):
            position += len(chunk)
            yield chunk


class _SyncPart(_Part):
    def __iter__(self) -> Iterator[bytes]:
        return self.read()


class _AsyncPart(_Part):
    """It is read on a thread for each chunk, so that a client which reads slowly holds none."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = sync_to_async(partial(next, self.read(), None), thread_sensitive=False)
        try:
            while (chunk := await read()) is not None:
                yield chunk
        finally:  # Django does not close the response of a client that has gone
            await sync_to_async(self.close, thread_sensitive=False)()
