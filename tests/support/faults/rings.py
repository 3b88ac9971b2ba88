"""Lose or duplicate rings in every process of a site while the file FAULT_RINGS contains "lost" or "doubled"."""

import os
from pathlib import Path


def change():
    from notifications.realtime import doorbell

    fault = Path(os.environ["FAULT_RINGS"])
    original = doorbell.listen

    def listen(callback):
        def receive(users, queue):
            for _ in range({"lost": 0, "doubled": 2}.get(fault.read_text(), 1)):
                callback(users, queue)

        return original(receive)

    doorbell.listen = listen
