"""Call one URL with the guarded client, and describe the outcome."""

from dataclasses import dataclass

from notifications import outbound

DEADLINE_SECONDS = 30.0
MAX_BODY_BYTES = 5_000_000
MAX_ERROR_LENGTH = 500
MAX_CONTENT_TYPE_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """The outcome of a call. Its fields have the names of those of the Call model.

    ``outcome`` is ``ok`` for a response with a status below 400, after redirects; ``refused`` if the guard did not
    allow the call; ``failed`` for every other response, whose status is kept, and for none.
    """

    outcome: str
    status: int | None = None
    elapsed_ms: int | None = None
    bytes: int | None = None
    content_type: str = ""
    error: str = ""


async def call_url(url):
    """Call a URL and return its CallResult. Errors are described in it, not raised.

    The body is counted while it arrives, and not kept.
    """
    try:
        async with outbound.stream(
            "GET", url, deadline=DEADLINE_SECONDS, max_bytes=MAX_BODY_BYTES, is_user_url=True
        ) as response:
            size = 0
            async for chunk in response:
                size += len(chunk)
    except outbound.Refused as error:
        return CallResult(outcome="refused", error=str(error)[:MAX_ERROR_LENGTH])
    except outbound.OutboundError as error:
        return CallResult(outcome="failed", error=str(error)[:MAX_ERROR_LENGTH])
    error = describe_status_error(response)
    return CallResult(
        outcome="failed" if error else "ok",
        status=response.status,
        elapsed_ms=round(response.elapsed * 1000),
        bytes=size,
        content_type=make_storable(response.headers.get("Content-Type", ""))[:MAX_CONTENT_TYPE_LENGTH],
        error=error[:MAX_ERROR_LENGTH],
    )


def describe_status_error(response):
    try:
        response.raise_for_status()
    except outbound.BadStatus as error:
        return str(error)
    return ""


def make_storable(text):
    """Replace what a database refuses in a header: NUL, and the lone surrogates of bytes that are not UTF-8."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
