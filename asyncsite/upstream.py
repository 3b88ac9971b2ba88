"""The sample upstream: small imitations of external APIs, to try the site without a network.

It is an ASGI application that is served under /upstream/ in development only. Every input is bounded, and an invalid
one gets 400, so all other errors are deliberate.
"""

import asyncio
import json
import math
from collections import OrderedDict
from http import HTTPStatus
from urllib.parse import parse_qs, quote

MAX_DELAY_SECONDS = 60.0
MAX_SIZE_MIB = 64  # Daphne buffers what the client does not read.
CHUNK = b"0123456789abcdef" * 4096  # 64 KiB
REDIRECTS = {301, 302, 303, 307, 308}
MAX_TEXT_LENGTH = 2000  # of a query parameter
MAX_PARAMETERS = 20
MAX_FLAKY_KEYS = 1000  # The oldest is dropped.
FLAKY_FAILURES = 2

flaky_calls: OrderedDict[str, int] = OrderedDict()


class InvalidInput(ValueError):
    """The path or the query is not valid. The message says what is."""


async def application(scope, receive, send):
    """Answer an HTTP request below /upstream/. Other connection types are ignored."""
    if scope["type"] != "http":
        return
    name, _, subpath = scope["path"].removeprefix("/upstream/").partition("/")
    endpoint = ENDPOINTS.get(name)
    try:
        if endpoint is None:
            await send_response(
                send, 404, f"There is no /upstream/{name}. Use one of: {', '.join(ENDPOINTS)}.\n"
            )
        else:
            await run_until_disconnect(
                endpoint(send, subpath.rstrip("/"), Query(scope["query_string"])), receive
            )
    except InvalidInput as error:
        await send_response(send, 400, f"{error}\n")


async def ok(send, subpath, query):
    await send_response(send, 200, "ok\n")


async def slow(send, subpath, query):
    seconds = query.number("s", default=1.0, maximum=MAX_DELAY_SECONDS)
    await asyncio.sleep(seconds)
    await send_response(send, 200, f"ok after {seconds:g} s\n")


async def status(send, subpath, query):
    if not (subpath.isascii() and subpath.isdigit() and len(subpath) == 3 and 200 <= int(subpath) <= 599):
        raise InvalidInput("The code in status/<code> must be from 200 to 599.")
    code = int(subpath)
    await send_response(
        send, code, "" if code in (204, 205, 304) else f"{code} {reason_phrase(code)}".rstrip() + "\n"
    )


async def flaky(send, subpath, query):
    key = query.text("key", default="")
    calls = flaky_calls[key] = flaky_calls.pop(key, 0) + 1
    if len(flaky_calls) > MAX_FLAKY_KEYS:
        flaky_calls.popitem(last=False)
    if calls <= FLAKY_FAILURES:
        await send_response(send, 503, f"failing on purpose, {calls} of {FLAKY_FAILURES}\n")
    else:
        await send_response(send, 200, f"ok at call {calls}\n")


async def redirect(send, subpath, query):
    code = query.number("status", default=302, maximum=599)
    if code not in REDIRECTS:
        raise InvalidInput(f"status must be one of {', '.join(map(str, sorted(REDIRECTS)))}.")
    # A header cannot carry all characters.
    location = quote(query.text("to", default="/upstream/ok"), safe="!#$%&'()*+,/:;=?@[]~")
    await send_response(send, int(code), f"see {location}\n", (b"location", location.encode("ascii")))


async def big(send, subpath, query):
    size = int(query.number("mb", default=1.0, maximum=MAX_SIZE_MIB) * 1024 * 1024)
    await start_response(send, 200, (b"content-type", b"application/octet-stream"))
    for offset in range(0, size, len(CHUNK)):
        await send({"type": "http.response.body", "body": CHUNK[: size - offset], "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def send_json(send, subpath, query):
    body = json.dumps({"ok": True, "query": query.values}, indent=2) + "\n"
    await send_response(send, 200, body, content_type=b"application/json")


async def drop(send, subpath, query):
    headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"1000"))
    await start_response(send, 200, *headers)
    await send({"type": "http.response.body", "body": b"this response ends in the mid", "more_body": True})
    close_connection(send)


ENDPOINTS = {
    "ok": ok,
    "slow": slow,
    "status": status,
    "flaky": flaky,
    "redirect": redirect,
    "big": big,
    "json": send_json,
    "drop": drop,
}


class Query:
    """The query parameters of a request."""

    def __init__(self, query_string):
        try:
            pairs = parse_qs(
                query_string.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS
            )
        except ValueError:
            raise InvalidInput(f"There are too many parameters. The limit is {MAX_PARAMETERS}.") from None
        self.values = {name: values[-1] for name, values in pairs.items()}

    def text(self, name, *, default):
        value = self.values.get(name, default)
        if len(value) > MAX_TEXT_LENGTH:
            raise InvalidInput(f"{name} must have at most {MAX_TEXT_LENGTH} characters.")
        return value

    def number(self, name, *, default, maximum):
        try:
            value = float(self.values.get(name, default))
        except ValueError:
            value = math.nan
        if not 0 <= value <= maximum:
            raise InvalidInput(f"{name} must be a number from 0 to {maximum:g}.")
        return value


async def run_until_disconnect(endpoint, receive):
    """Run an endpoint, and cancel it when the client disconnects."""
    work = asyncio.ensure_future(endpoint)
    disconnect = asyncio.ensure_future(wait_for_disconnect(receive))
    try:
        await asyncio.wait({work, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        disconnect.cancel()
        await asyncio.gather(work, disconnect, return_exceptions=True)


async def wait_for_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def close_connection(send):
    """Close the connection in the middle of a response.

    ASGI has no message for it. uvicorn closes the connection when an application returns early. Daphne would let the
    client wait, so the transport is taken from Daphne's request, to which its ``send`` is bound.
    """
    for request in getattr(send, "args", ()):
        if channel := getattr(request, "channel", None):
            channel.transport.loseConnection()


async def send_response(send, code, body, *headers, content_type=b"text/plain; charset=utf-8"):
    content = body.encode("utf-8", "backslashreplace")
    if content:
        headers = (*headers, (b"content-type", content_type), (b"content-length", str(len(content)).encode()))
    await start_response(send, code, *headers)
    await send({"type": "http.response.body", "body": content})


async def start_response(send, code, *headers):
    headers = [*headers, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": code, "headers": headers})


def reason_phrase(code):
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""
