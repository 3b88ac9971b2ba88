"""An ASGI application that says which options a connection to Daphne has copied; a process of its own serves it."""

import json

from daphne.ws_protocol import WebSocketProtocol

from notifications.realtime.servers.daphne import share_options


async def application(scope, receive, send):
    await receive()
    share_options(send)
    (protocol,) = send.args
    names = WebSocketProtocol.CONFIG_ATTRS
    found = {
        "copied": [name for name in names if name in vars(protocol)],
        "other": [name for name in names if getattr(protocol, name) != getattr(protocol.factory, name)],
        "formatted": len(protocol.CONFIG_ATTRS),  # of these autobahn makes its line of debugging
    }
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(found)})
    await receive()
