"""Processes of a site that give silent connections up sooner than in production, after TEST_DEADLINES seconds."""

import os

from django.apps import AppConfig


class ShortDeadlines(AppConfig):
    name = "tests.support.short_deadlines"
    label = "short_deadlines"

    def ready(self):
        from notifications import connection_deadlines
        from notifications.realtime import doorbell_layer, doorbell_postgres

        seconds = float(os.environ["TEST_DEADLINES"])
        connection_deadlines.ANSWER_SECONDS = seconds
        connection_deadlines.OPTIONS |= {
            "connect_timeout": int(seconds),
            "tcp_user_timeout": int(seconds * 1000),
        }
        doorbell_postgres.PROBE_SECONDS = doorbell_postgres.PROBE_ANSWER_SECONDS = seconds
        doorbell_layer.CHECK = doorbell_layer.PATIENCE = seconds
