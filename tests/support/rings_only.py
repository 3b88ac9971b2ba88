"""Processes of a site that find nothing by looking for it: what they learn, a ring has told them.

Switched on by TEST_RINGS_ONLY=1. Each says HEARING in its log as soon as it hears the others.
"""

import threading
import time

from django.apps import AppConfig

HEARING = "It hears the others."


class RingsOnly(AppConfig):
    name = "tests.support.rings_only"
    label = "rings_only"

    def ready(self):
        from notifications.jobs.worker import worker
        from notifications.realtime import clock

        worker.POLL_INTERVAL_SECONDS = clock.CHECK_EVERY = 10**6
        threading.Thread(target=say_when_hearing, daemon=True).start()


def say_when_hearing():
    from notifications.realtime.doorbell import doorbell

    while not (doorbell._listener and doorbell._listener.is_listening):
        time.sleep(0.02)
    print(HEARING, flush=True)
