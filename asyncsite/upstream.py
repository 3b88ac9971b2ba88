"""The sample upstream: other people's APIs in miniature, so that the site can be tried without a network.

A small ASGI application of its own, served under /upstream/ in development only. Every input is bounded and a bad
one is answered 400: whatever fails here fails on purpose.
"""

import asyncio
import json
import math
from collections import OrderedDict
from http import HTTPStatus
from urllib.parse import parse_qs, quote

SLOWEST = 60.0  # seconds
BIGGEST = 64  # MiB; Daphne buffers what the client does not read
CHUNK = b"0123456789abcdef" * 4096  # 64 KiB
REDIRECTS = {301, 302, 303, 307, 308}
TEXT_LIMIT = 2000  # characters of a query parameter
FLAKY_KEYS = 1000  # the oldest is forgotten beyond it
FLAKY_FAILURES = 2

flaky_calls: OrderedDict[str, int] = OrderedDict()


class BadInput(ValueError):
    """The query or path asks for something that the sample upstream does not do; the text says what it does."""


async def application(scope, receive, send):
    """Answer one request below /upstream/. Other connection types end without an answer."""
    if scope["type"] != "http":
        return
    name, _, rest = scope["path"].removeprefix("/upstream/").partition("/")
    endpoint = ENDPOINTS.get(name)
    try:
        if endpoint is None:
            await answer(send, 404, f"There is no /upstream/{name}. There are: {', '.join(ENDPOINTS)}.\n")
        else:
            await until_gone(endpoint(send, rest.rstrip("/"), Query(scope["query_string"])), receive)
    except BadInput as error:
        await answer(send, 400, f"{error}\n")


async def ok(send, rest, query):
    await answer(send, 200, "ok\n")


async def slow(send, rest, query):
    seconds = query.number("s", default=1.0, most=SLOWEST)
    await asyncio.sleep(seconds)
    await answer(send, 200, f"ok after {seconds:g} s\n")


async def status(send, rest, query):
    if not (rest.isascii() and rest.isdigit() and len(rest) == 3 and 200 <= int(rest) <= 599):
        raise BadInput("status/<code> takes a code from 200 to 599.")
    code = int(rest)
    await answer(send, code, "" if code in (204, 205, 304) else f"{code} {phrase(code)}".rstrip() + "\n")


async def flaky(send, rest, query):
    key = query.text("key", default="")
    calls = flaky_calls[key] = flaky_calls.pop(key, 0) + 1
    if len(flaky_calls) > FLAKY_KEYS:
        flaky_calls.popitem(last=False)
    if calls <= FLAKY_FAILURES:
        await answer(send, 503, f"failing on purpose, {calls} of {FLAKY_FAILURES}\n")
    else:
        await answer(send, 200, f"ok at call {calls}\n")


async def redirect(send, rest, query):
    code = query.number("status", default=302, most=599)
    if code not in REDIRECTS:
        raise BadInput(f"status takes one of {', '.join(map(str, sorted(REDIRECTS)))}.")
    # What a header cannot carry as it is goes percent-encoded.
    location = quote(query.text("to", default="/upstream/ok"), safe="!#$%&'()*+,/:;=?@[]~")
    await answer(send, int(code), f"see {location}\n", (b"location", location.encode("ascii")))


async def big(send, rest, query):
    size = int(query.number("mb", default=1.0, most=BIGGEST) * 1024 * 1024)
    await start(send, 200, (b"content-type", b"application/octet-stream"))
    for offset in range(0, size, len(CHUNK)):
        await send({"type": "http.response.body", "body": CHUNK[: size - offset], "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def json_(send, rest, query):
    body = json.dumps({"ok": True, "query": query.values}, indent=2) + "\n"
    await answer(send, 200, body, content_type=b"application/json")


async def drop(send, rest, query):
    headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"1000"))
    await start(send, 200, *headers)
    await send({"type": "http.response.body", "body": b"this answer ends in the mid", "more_body": True})
    cut(send)


ENDPOINTS = {
    "ok": ok,
    "slow": slow,
    "status": status,
    "flaky": flaky,
    "redirect": redirect,
    "big": big,
    "json": json_,
    "drop": drop,
}


class Query:
    """The parameters of one request, read with bounds."""

    def __init__(self, query_string):
        try:
            pairs = parse_qs(
                query_string.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=20
            )
        except ValueError:
            raise BadInput("There are too many parameters: at most 20.") from None
        self.values = {name: values[-1] for name, values in pairs.items()}

    def text(self, name, *, default):
        value = self.values.get(name, default)
        if len(value) > TEXT_LIMIT:
            raise BadInput(f"{name} takes at most {TEXT_LIMIT} characters.")
        return value

    def number(self, name, *, default, most):
        try:
            value = float(self.values.get(name, default))
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:
            raise BadInput(f"{name} takes a number from 0 to {most:g}.")
        return value


async def until_gone(answering, receive):
    """Run until the answer is sent or the client has gone, so that nobody's slow answer outlives the asker."""
    work = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def cut(send):
    """Close the connection under an answer that is not complete.

    ASGI has no word for it. uvicorn does it by itself when an application returns early; Daphne would leave the client
    waiting, so its own request, which its ``send`` carries, is asked for the transport.
    """
    for request in getattr(send, "args", ()):
        if channel := getattr(request, "channel", None):
            channel.transport.loseConnection()


async def answer(send, code, body, *headers, content_type=b"text/plain; charset=utf-8"):
    content = body.encode("utf-8", "backslashreplace")
    if content:
        headers = (*headers, (b"content-type", content_type), (b"content-length", str(len(content)).encode()))
    await start(send, code, *headers)
    await send({"type": "http.response.body", "body": content})


async def start(send, code, *headers):
    headers = [*headers, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": code, "headers": headers})


def phrase(code):
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""
