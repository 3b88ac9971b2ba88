"""An ASGI application that does not use Django's handler, with Django set up. The tests serve it in a process.

It answers with the hash of the body, the size of its largest piece, and the type of the event after it.
"""

import asyncio
import hashlib
import json
import os

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "notifications"],
    NOTIFICATIONS={"MAX_BODY_BYTES": int(os.environ.get("MAX_BODY_BYTES", "1000000000"))},
)
django.setup()


async def application(scope, receive, send):
    assert scope["type"] in ("http", "websocket")
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    digest, pieces = hashlib.sha256(), []
    while True:
        message = await receive()
        digest.update(message.get("body", b""))
        pieces.append(len(message.get("body", b"")))
        if not message.get("more_body"):
            break
    try:
        next_event = (await asyncio.wait_for(receive(), 0.1))["type"]
    except TimeoutError:
        next_event = None
    summary = {"hash": digest.hexdigest(), "largest": max(pieces), "after": next_event}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(summary).encode()})


async def echo(receive, send):
    """Send each message back; "close" closes with 4000."""
    await receive()
    await send({"type": "websocket.accept"})
    is_closed = False
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            is_closed = True
            await send({"type": "websocket.close", "code": 4000})
        elif not is_closed:
            await send({"type": "websocket.send", "text": message["text"]})
