"""The site's application with the timeouts of the protocol divided by CONFORMANCE_SPEEDUP."""

import os

from asyncsite.asgi import application as application
from notifications.realtime.transports import websocket

SPEEDUP = float(os.environ.get("CONFORMANCE_SPEEDUP", "1"))

websocket.HELLO_TIMEOUT_SECONDS /= SPEEDUP
websocket.ACK_TIMEOUT_SECONDS /= SPEEDUP
