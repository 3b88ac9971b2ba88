"""Call one URL with the guarded client, and describe the outcome."""

from dataclasses import dataclass

from notifications import outbound

DEADLINE = 30.0  # seconds
MAX_BODY_BYTES = 5_000_000
ERROR_LENGTH = 500
TYPE_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The outcome of a call. The fields have the names of those of the Call model.

    ``outcome`` is ``ok`` for an answer with a status below 400, after redirects; ``refused`` where the guard did not
    allow the call; and ``failed`` for every other answer, whose status is kept, and for none.
    """

    outcome: str
    status: int | None = None
    elapsed_ms: int | None = None
    bytes: int | None = None
    content_type: str = ""
    error: str = ""


async def call(url):
    """Call a URL and return its Answer, with the text of an error instead of raising it.

    The body is counted while it arrives, and not kept.
    """
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
    """Return a header without what a database refuses: NUL, and the lone surrogates of bytes that are not UTF-8."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
