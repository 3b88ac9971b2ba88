"""Limits that are checked before a request is read."""

import asyncio
import json

import pytest

from notifications.realtime.servers import request_limits


async def call(*headers, pieces=(b"",)):
    """Call an application behind the limits. Return the messages that were sent, and the pieces of body it received."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False
    sent, received = [], []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    async def application(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            received.append(message["body"])
            if not message["more_body"]:
                return await send({"type": "http.response.start", "status": 200, "headers": []})

    await request_limits.call_bounded(application, {"type": "http", "headers": headers}, receive, send)
    return sent, received


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-type", b"a" * 2048)], 200),
        ([(b"content-type", b"a" * 2049)], 400),
        ([(b"content-type", b"a" * 1024)] * 2, 400),  # Django joins them by a comma
        ([(b"content-type", b"text/plain; charset*=utf-8'en'x")], 200),
        ([(b"content-type", b"text/plain; charset*=unknown'en'%41")], 400),
        ([(b"content-length", b"10")], 200),
        ([(b"content-length", b"11")], 413),
        ([(b"content-length", b"9" * 5000)], 413),
        ([(b"content-length", b"eleven")], 200),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_limits_of_headers(settings, headers, status):
    """The response is a problem document, and the body is not read."""
    settings.NOTIFICATIONS = {"MAX_BODY_BYTES": 10}
    sent, received = await call(*headers)
    assert sent[0]["status"] == status
    assert bool(received) is (status == 200)
    if status != 200:
        assert (b"content-type", b"application/problem+json") in sent[0]["headers"]
        assert json.loads(sent[1]["body"])["status"] == status


@pytest.mark.parametrize(
    "language", [(b"accept-language", b"de,en;q=0.5"), (b"cookie", b"django_language=de")]
)
async def test_a_browser_gets_a_page(settings, language):
    """In its language: what is wrong, that nothing is lost, and what to do. A script gets the problem document."""
    settings.NOTIFICATIONS = {"MAX_BODY_BYTES": 16 * 1024 * 1024}
    too_long = (b"content-length", b"99999999")
    sent, _ = await call(too_long, language, (b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"))
    assert sent[0]["status"] == 413 and (b"connection", b"close") in sent[0]["headers"]
    assert (b"content-type", b"text/html; charset=utf-8") in sent[0]["headers"]
    page = sent[1]["body"].decode()
    assert '<html lang="de" dir="ltr">' in page and "16,0\xa0MB" in page and "Gehen Sie zurück" in page
    sent, _ = await call(too_long, (b"accept", b"application/json, text/html;q=0.1"))
    assert json.loads(sent[1]["body"])["status"] == 413


@pytest.mark.parametrize("headers", [[(b"transfer-encoding", b"chunked")], []], ids=["chunks", "HTTP/2"])
@pytest.mark.parametrize(("pieces", "status"), [([b"12345"] * 2, 200), ([b"12345"] * 2 + [b"6", b"7"], 413)])
async def test_body_without_content_length_is_counted(settings, headers, pieces, status):
    settings.NOTIFICATIONS = {"MAX_BODY_BYTES": 10}
    sent, received = await call(*headers, pieces=pieces)
    assert [message["status"] for message in sent if "status" in message] == [status]
    assert received == pieces[:2]


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding"])
async def test_rest_of_a_refused_body_is_read(settings, name):
    """It is read before the response ends: then servers close the connection, and unread data would reset it."""
    settings.NOTIFICATIONS = {"MAX_BODY_BYTES": 10}
    pieces = [b"12345678"] * 5
    events = []

    async def application(scope, receive, send):
        while (await receive())["type"] == "http.request":
            pass

    async def receive():
        events.append("receive")
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    async def send(message):
        events.append("more" if message.get("more_body", "status" in message) else "end")

    headers = [(name.encode(), b"40" if name == "content-length" else b"chunked")]
    await request_limits.call_bounded(application, {"type": "http", "headers": headers}, receive, send)
    assert not pieces and events[-2:] == ["receive", "end"] and "more" in events[:-2]


@pytest.mark.parametrize("messages", [[], [{"type": "http.disconnect"}]], ids=["silent", "gone"])
async def test_refused_client_that_sends_no_more(settings, set_bounds, messages):
    """It is silent or has disconnected. The wait is limited."""
    settings.NOTIFICATIONS = {"MAX_BODY_BYTES": 10}
    set_bounds(clients=0.1)
    sent = []

    async def receive():
        return messages.pop() if messages else await asyncio.sleep(30)

    async def send(message):
        sent.append(message)

    async with asyncio.timeout(10):
        headers = [(b"content-length", b"11")]
        await request_limits.call_bounded(None, {"type": "http", "headers": headers}, receive, send)
    assert sent[0]["status"] == 413 and sent[1]["more_body"] and not sent[-1].get("more_body")


async def test_no_limit(settings):
    """Only Django's own limits apply."""
    settings.NOTIFICATIONS = {}
    sent, _ = await call(
        (b"content-length", b"9" * 18), (b"transfer-encoding", b"chunked"), pieces=[b"x" * 10**6]
    )
    assert sent[0]["status"] == 200
