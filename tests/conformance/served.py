"""The site's application with the waits of the protocol made shorter: CONFORMANCE_HASTE=10 is ten times as fast."""

import os

from asyncsite.asgi import application as application
from notifications.realtime.transports import websocket

HASTE = float(os.environ.get("CONFORMANCE_HASTE", "1"))

websocket.HELLO_TIMEOUT_SECONDS /= HASTE
websocket.ACK_TIMEOUT_SECONDS /= HASTE
