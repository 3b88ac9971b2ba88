"""One guarded call to one URL, and what came of it."""

from dataclasses import dataclass

from notifications import outbound

DEADLINE = 30.0  # seconds, for a call that nobody waits for
MAX_BODY_BYTES = 5_000_000
ERROR_LENGTH = 500
TYPE_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a call, under the names of the Call row.

    ``ok`` is an answer with a status below 400, after redirects. ``failed`` is any other answer, which keeps its
    status, and no usable answer at all. ``refused`` was not called, because the guard does not allow it.
    """

    outcome: str
    status: int | None = None
    elapsed_ms: int | None = None
    bytes: int | None = None
    content_type: str = ""
    error: str = ""


async def call(url):
    """Call a URL and return its Answer, which also says in words what went wrong. The body is counted, not kept."""
    try:
        async with outbound.stream("GET", url, deadline=DEADLINE, max_bytes=MAX_BODY_BYTES) as response:
            size = 0
            async for piece in response:
                size += len(piece)
    except outbound.Refused as error:
        return Answer(outcome="refused", error=str(error)[:ERROR_LENGTH])
    except outbound.OutboundError as error:
        return Answer(outcome="failed", error=str(error)[:ERROR_LENGTH])
    error = error_of(response)
    return Answer(
        outcome="failed" if error else "ok",
        status=response.status,
        elapsed_ms=round(response.elapsed * 1000),
        bytes=size,
        content_type=storable(response.headers.get("Content-Type", ""))[:TYPE_LENGTH],
        error=error[:ERROR_LENGTH],
    )


def error_of(response):
    try:
        response.raise_for_status()
    except outbound.BadStatus as error:
        return str(error)
    return ""


def storable(text):
    """A header as a database takes it: its bytes may be no UTF-8, which Python holds as lone surrogates."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
