"""A site whose processes close silent connections after TEST_DEADLINES seconds, sooner than in production."""

import os


def change():
    from notifications.db import deadlines
    from notifications.realtime.doorbell import channel_layer, postgres
    from notifications.realtime.servers import uvicorn
    from notifications.realtime.transports import sse, websocket

    seconds = float(os.environ["TEST_DEADLINES"])
    deadlines.ANSWER_SECONDS = seconds
    deadlines.OPTIONS |= {
        "connect_timeout": int(seconds),
        "tcp_user_timeout": int(seconds * 1000),
    }
    postgres.PROBE_SECONDS = postgres.PROBE_ANSWER_SECONDS = seconds
    websocket.HELLO_TIMEOUT_SECONDS = websocket.CLOSE_TIMEOUT_SECONDS = seconds
    sse.EventStream.max_response_seconds = seconds
    sse.COMMENT_INTERVAL_SECONDS = sse.DRAIN_TIMEOUT_SECONDS = seconds
    uvicorn.KEEPALIVE_OPTIONS |= {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1}
    channel_layer.SELF_CHECK_SECONDS = channel_layer.TIMEOUT_SECONDS = seconds
