"""Processes that listen to the doorbell, and processes that ring it.

listener = ListenerProcess(site)
ring(site, "streams.ring([1])")  # in another process, which then exits
listener.until(lambda listener: 1 in listener.users)
"""

import json
import time

from tests.support.waiting import wait_until

LISTEN = """
import json, os, sys, time
import django
django.setup()
from notifications import streams
from notifications.realtime import doorbell

def record(users, queue):
    call = {"pid": os.getpid(), "at": time.time(), "users": list(users), "queue": queue, "changes": users}
    os.write(1, (json.dumps(call) + "\\n").encode())

def listen():
    doorbell.listen(record)
    while not doorbell.doorbell._listener.is_listening:
        time.sleep(0.01)
    print(f"listening {os.getpid()}", flush=True)

listen()
"""
# A process that the listener has forked ends with it.
WAIT = """
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(0.5)
"""
RING = """
import time
from django.db import transaction
from notifications import streams
from notifications.realtime.doorbell import channel_layer, postgres
channel_layer.STOP_TIMEOUT_SECONDS = postgres.STOP_TIMEOUT_SECONDS = 60  # long enough for a busy machine
at = 0
{}
print(at)
"""


class ListenerProcess:
    """A process that listens. `then` is code that it runs once it listens."""

    def __init__(self, site, then=""):
        self.process = site.start("listener", "-c", LISTEN + then + WAIT)
        self.process.wait_for_line(f"listening {self.process.pid}")

    @property
    def calls(self):
        """The recorded calls of its callback, each {"pid", "at", "users", "queue", "changes"}."""
        return [json.loads(line) for line in self.process.output.splitlines() if line.startswith("{")]

    @property
    def users(self):
        return {user for call in self.calls for user in call["users"]}

    def until(self, condition, **options):
        return self.process.wait_until(lambda: condition(self), what="rings", **options)

    def wait_for_user(self, user):
        """Wait for the first call with this user, and return it."""
        return self.until(lambda self: next((call for call in self.calls if user in call["users"]), None))

    def ring_until_received(self, site, user):
        """Ring until a ring of this user is received, because nothing signals when a transport works again."""

        def ring_arrives():
            ring(site, f"streams.ring([{user}])")
            time.sleep(0.1)
            return user in self.users

        wait_until(ring_arrives, timeout=100, what="a ring after the fault")


def ring(site, code):
    """Run code in a process that exits afterwards. Returns the value of `at`."""
    return float(site.python(RING.format(code)).split()[-1])
