"""Processes of a site that give up what is silent sooner than in production, after TEST_DEADLINES seconds."""

import os

from django.apps import AppConfig


class ShortDeadlines(AppConfig):
    name = "tests.support.short_deadlines"
    label = "short_deadlines"

    def ready(self):
        from notifications import connection_deadlines
        from notifications.realtime import doorbell_layer, doorbell_postgres, sse, uvicorn_server, websocket

        seconds = float(os.environ["TEST_DEADLINES"])
        connection_deadlines.ANSWER_SECONDS = seconds
        connection_deadlines.OPTIONS |= {
            "connect_timeout": int(seconds),
            "tcp_user_timeout": int(seconds * 1000),
        }
        doorbell_postgres.PROBE_SECONDS = doorbell_postgres.PROBE_ANSWER_SECONDS = seconds
        websocket.HELLO_WITHIN = websocket.CLOSE_WITHIN = seconds
        sse.RESPONSE_SECONDS = sse.COMMENT = sse.REST_WITHIN = seconds
        uvicorn_server.PROBES |= {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1}
        doorbell_layer.CHECK = doorbell_layer.PATIENCE = seconds
