"""A site whose processes do not poll the database, so that they notice changes only by rings.

Each process prints LISTENING once it receives the rings of the others.
"""

import threading
import time

from tests.support.bounds import set_bounds

LISTENING = "Receives rings of other processes."


def change():
    from notifications.realtime import hub

    set_bounds(setattr, polls=10**6)
    hub.POSITION_CHECK_TICKS = 10**6
    threading.Thread(target=print_when_listening, daemon=True).start()


def print_when_listening():
    from notifications.realtime.doorbell import doorbell

    while not (doorbell._listener and doorbell._listener.is_listening):
        time.sleep(0.02)
    print(LISTENING, flush=True)
