"""Rings that meet a fate: the file FAULT_RINGS says "lost" or "doubled", or nothing. For every process of a site."""

import os
from pathlib import Path

from django.apps import AppConfig


class Rings(AppConfig):
    name = "tests.faults.support"
    label = "fault_rings"

    def ready(self):
        from notifications.realtime import doorbell

        fate = Path(os.environ["FAULT_RINGS"])
        really = doorbell.listen

        def listen(callback):
            def heard(users, queue):
                for _ in range({"lost": 0, "doubled": 2}.get(fate.read_text(), 1)):
                    callback(users, queue)

            return really(heard)

        doorbell.listen = listen
