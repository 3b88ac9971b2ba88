"""Single calls: what is sent, returned and raised."""

import asyncio
import ssl
import time

import pytest
from asgiref.sync import async_to_sync

from notifications import __version__, outbound

from .upstream import CannedServer, http_response


@pytest.mark.parametrize("name", ["get", "post", "put", "patch", "delete"])
async def test_functions_of_methods(upstream, name):
    """Each function sends its method."""
    response = await getattr(outbound, name)(upstream.url("/echo"))
    assert response.status == 200
    assert response.json()["method"] == name.upper()
    assert response.json()["body"] == ""


async def test_head(upstream):
    """A response to HEAD has no body, whatever its headers say."""
    response = await outbound.head(upstream.url("/sized/6000000"))
    assert (response.status, response.body, response.headers["Content-Length"]) == (200, b"", "6000000")
    response = await outbound.head(upstream.url("/compressed/10?encoding=br"))
    assert response.body == b""


async def test_any_method(upstream):
    """request() takes other methods, in any case."""
    assert (await outbound.request("options", upstream.url("/echo"))).json()["method"] == "OPTIONS"


@pytest.mark.parametrize("method", ["CONNECT", "trace", "GET /", "", "GE\nT", "GÉT", 7])
async def test_invalid_method(upstream, method):
    """CONNECT, TRACE and invalid methods raise ValueError."""
    with pytest.raises(ValueError, match="Use GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS"):
        await outbound.request(method, upstream.url())
    assert not upstream.requests


@pytest.mark.parametrize(
    ("options", "content_type", "body"),
    [
        ({"json": {"a": [1, "ä"]}}, "application/json", '{"a": [1, "\\u00e4"]}'),
        ({"json": False}, "application/json", "false"),
        ({"data": "ä"}, "text/plain; charset=utf-8", "ä"),
        ({"data": b"a"}, "application/octet-stream", "a"),
        ({"data": {"a": "b c", "d": [1, 2]}}, "application/x-www-form-urlencoded", "a=b+c&d=1&d=2"),
        ({"data": [("a", "1"), ("a", "2")]}, "application/x-www-form-urlencoded", "a=1&a=2"),
        ({"data": b"<a/>", "headers": {"content-type": "application/xml"}}, "application/xml", "<a/>"),
    ],
)
async def test_body(upstream, options, content_type, body):
    """json and data are encoded, with their content type."""
    sent = (await outbound.post(upstream.url("/echo"), **options)).json()
    assert (sent["headers"]["content-type"], sent["body"]) == (content_type, body)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"json": {}, "data": "a"}, ValueError),
        ({"json": float("nan")}, ValueError),
        ({"json": object()}, TypeError),
        ({"data": object()}, TypeError),
        ({"data": iter([b"a"])}, TypeError),
        ({"headers": {"A": "b\r\nC: d"}}, ValueError),
        ({"headers": {"A\n": "b"}}, ValueError),
        ({"params": {"a": object()}}, TypeError),
        ({"deadline": 0}, ValueError),
        ({"deadline": -1}, ValueError),
        ({"deadline": float("nan")}, ValueError),
        ({"deadline": float("inf")}, ValueError),
        ({"deadline": None}, TypeError),
    ],
)
async def test_invalid_arguments(upstream, options, error):
    """Invalid arguments raise ValueError or TypeError, and nothing is sent."""
    with pytest.raises(error):
        await outbound.post(upstream.url(), **options)
    assert not upstream.requests


async def test_headers(upstream):
    """Headers of the caller are added to the default ones, or replace them."""
    headers = (await outbound.get(upstream.url("/echo"), headers=[("X-A", "1")])).json()["headers"]
    assert headers["x-a"] == "1"
    assert headers["user-agent"] == f"asyncsite-notifications/{__version__}"
    assert headers["accept-encoding"] == "gzip, deflate, br, zstd"
    headers = (await outbound.get(upstream.url("/echo"), headers={"user-agent": "me"})).json()["headers"]
    assert headers["user-agent"] == "me"


async def test_params(upstream):
    """params are added to the query, encoded."""
    response = await outbound.get(upstream.url("/echo?a=1#f"), params={"b": "x y&z", "c": 2})
    assert response.json()["path"] == "/echo?a=1&b=x+y%26z&c=2"
    assert response.url == upstream.url("/echo?a=1&b=x+y%26z&c=2")
    assert (await outbound.get(upstream.url("/echo"), params=[("a", "1"), ("a", "2")])).url.endswith(
        "?a=1&a=2"
    )


async def test_elapsed(upstream):
    """elapsed is the seconds until the response was complete."""
    response = await outbound.get(upstream.url("/slow/0.2"))
    assert 0.2 <= response.elapsed < 20


async def test_connections_are_kept(upstream):
    """Consecutive calls use one connection."""
    for _ in range(5):
        await outbound.get(upstream.url("/ok"))
        await outbound.get(upstream.url("/redirect?to=/ok"))
    assert len(upstream.connections) == 1


@pytest.mark.parametrize("path", ["/slow/30", "/drip"])
async def test_deadline(upstream, path):
    """A server that sends no complete response costs the deadline and no more."""
    started = time.monotonic()
    with pytest.raises(outbound.TimedOut) as error:
        await outbound.get(upstream.url(path), deadline=0.3)
    assert str(error.value) == f"{upstream.address} did not send a complete response within 0.3 s."
    assert time.monotonic() - started < 15  # Both would take 30 s.


async def test_redirects_share_the_deadline(upstream):
    with pytest.raises(outbound.TimedOut):
        await outbound.get(
            upstream.url("/redirect?after=0.2&to=/redirect%3Fafter=0.2%26to=/ok"), deadline=0.3
        )
    assert len(upstream.requests) <= 2  # With a deadline each, all would be answered.


async def test_deadline_while_waiting_for_a_slot(upstream, allow):
    """Waiting for a slot is part of the deadline, and the error says so."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    first = asyncio.create_task(outbound.get(upstream.url("/slow/1")))
    await upstream.wait_until_busy()
    with pytest.raises(
        outbound.TimedOut, match=r"was not called within 0\.2 s: too many other calls were waiting"
    ):
        await outbound.get(upstream.url("/ok"), deadline=0.2)
    assert (await first).status == 200


async def test_deadline_during_name_resolution(resolve_names):
    """A name server that does not respond costs the deadline and no more."""
    resolve_names({"slow.test": lambda: time.sleep(1) or ["8.8.8.8"]})
    with pytest.raises(outbound.TimedOut):
        await outbound.get("http://slow.test/", deadline=0.2)


async def test_canceled(upstream):
    """A cancelled call raises CancelledError, not TimedOut, and releases its slot."""
    task = asyncio.create_task(outbound.get(upstream.url("/slow/30")))
    await upstream.wait_until_busy()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await outbound.get(upstream.url("/ok"))).status == 200


async def test_unreachable(allow):
    """The port is closed."""
    server = CannedServer()
    server.close()
    allow(server.address)
    with pytest.raises(outbound.Unreachable, match=f"^{server.address} could not be reached.$"):
        await outbound.get(server.url)


async def test_unknown_name(resolve_names):
    resolve_names({})
    with pytest.raises(outbound.Unreachable, match=r"^nowhere\.test could not be found\.$"):
        await outbound.get("http://nowhere.test/")


async def test_no_tls(upstream):
    """The server does not speak TLS."""
    with pytest.raises(outbound.Unreachable):
        await outbound.get(upstream.url("/ok").replace("http:", "https:"))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], outbound.Unreachable, "closed the connection without a response"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], outbound.BadResponse, "is not HTTP"),
        ([b"\x00\xff" * 100], outbound.BadResponse, "is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], outbound.BadResponse, "is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000 + b"\r\n"], outbound.BadResponse, "is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nA: " + b"b" * 50_000 + b"\r\n\r\n"], outbound.BadResponse, "is not HTTP"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"], outbound.BadResponse, "is not HTTP"),
        ([b"HTTP/9.9 200 OK\r\n\r\n"], outbound.BadResponse, "is not HTTP"),
        ([b"HTTP/1.1 99999 OK\r\n\r\n"], outbound.BadResponse, "is not HTTP"),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"],
            outbound.BadResponse,
            "ended too early",
        ),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"],
            outbound.BadResponse,
            "ended too early",
        ),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
            outbound.BadResponse,
            "ended too early|is not HTTP",
        ),
    ],
    ids=[
        "no response",
        "ssh",
        "garbage",
        "length",
        "headers",
        "header",
        "switch",
        "version",
        "status",
        "short",
        "chunk",
        "chunks",
    ],
)
async def test_invalid_responses(allow, parts, error, message):
    """A response that is not HTTP, or incomplete, is an error with a message."""
    with CannedServer(*parts) as server:
        allow(server.address)
        with pytest.raises(error, match=message):
            await outbound.get(server.url, deadline=5)


@pytest.mark.parametrize("count", [1, 20])
async def test_interim_responses(allow, count):
    """Up to 20 interim responses are skipped, counted anew for each call on a kept connection."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * count
    with CannedServer(hints, http_response(b"ok"), keep_open=True, keep_alive=True) as server:
        allow(server.address)
        for _ in range(2):
            assert (await outbound.get(server.url, deadline=5)).text() == "ok"


async def test_too_many_interim_responses(allow):
    """A hundred interim responses are an error."""
    with CannedServer(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 100, http_response(b"ok")) as server:
        allow(server.address)
        with pytest.raises(outbound.BadResponse, match="is not HTTP"):
            await outbound.get(server.url, deadline=5)


async def test_endless_interim_responses(allow):
    """Calls to a server that sends nothing else end after 20; with aiohttp's session they blocked others for 0.6 s."""
    with CannedServer(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000) as server:
        allow(server.address)
        found = await asyncio.gather(
            *(outbound.get(server.url, deadline=20, retries=0) for _ in range(10)), return_exceptions=True
        )
        assert {type(error) for error in found} == {outbound.BadResponse}
        assert server.request_count == 10


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 500, 599])
async def test_any_status_is_returned(upstream, status):
    """A status is not an error until raise_for_status() is called."""
    assert (await outbound.get(upstream.url(f"/status/{status}"))).status == status


def test_from_sync_code(upstream):
    """async_to_sync() makes a call from synchronous code."""
    for _ in range(3):
        assert async_to_sync(outbound.get)(upstream.url("/ok")).text() == "ok"


async def test_from_sync_code_in_a_thread(upstream):
    """A synchronous view of an async server can make calls."""
    call = async_to_sync(outbound.get)
    assert (await asyncio.to_thread(call, upstream.url("/ok"))).text() == "ok"


async def test_self_signed_certificate(allow, self_signed_pem):
    """A server with a certificate that no authority has signed is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed_pem)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", ssl=context)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    allow(address)
    with pytest.raises(outbound.Unreachable, match=f"^{address} has no valid certificate.$"):
        await outbound.get(f"https://{address}/")
    server.close()
    await server.wait_closed()
