"""An ASGI application that sends which options its Daphne connection has copied. The tests serve it in a process."""

import json

from daphne.ws_protocol import WebSocketProtocol

from notifications.realtime.servers.daphne import share_options


async def application(scope, receive, send):
    await receive()
    share_options(send)
    (protocol,) = send.args
    names = WebSocketProtocol.CONFIG_ATTRS
    report = {
        "copied": [name for name in names if name in vars(protocol)],
        "other": [name for name in names if getattr(protocol, name) != getattr(protocol.factory, name)],
        "formatted": len(protocol.CONFIG_ATTRS),  # autobahn formats these for its debug log
    }
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(report)})
    await receive()
