"""Processes that listen to the doorbell and ring it, and what they have heard.

listener = Ear(site)                      # a process that listens
ring(site, "streams.ring([1])")           # another one, that ends at once
listener.until(lambda heard: 1 in heard.users)
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

def heard(users, queue):
    call = {"pid": os.getpid(), "at": time.time(), "users": list(users), "queue": queue}
    os.write(1, (json.dumps(call) + "\\n").encode())

def listen():
    doorbell.listen(heard)
    while not doorbell.doorbell._watcher.hearing:
        time.sleep(0.01)
    print(f"listening {os.getpid()}", flush=True)

listen()
"""
WAIT = """
while True:
    time.sleep(60)
"""
RING = """
import time
from django.db import transaction
from notifications import streams
from notifications.realtime.doorbell import layer, postgres
layer.END = postgres.END = 60  # what this process says is heard, however busy the machine is
at = 0
{}
print(at)
"""


class Ear:
    """A process that listens; `then` is what it does besides."""

    def __init__(self, site, then=""):
        self.process = site.start("ear", "-c", LISTEN + then + WAIT)
        self.process.wait_for_line(f"listening {self.process.pid}")

    @property
    def calls(self):
        """What it was called with: {"pid", "at", "users", "queue"}."""
        return [json.loads(line) for line in self.process.output.splitlines() if line.startswith("{")]

    @property
    def users(self):
        return {user for call in self.calls for user in call["users"]}

    def until(self, condition, **options):
        return self.process.wait_until(lambda: condition(self), what="rings", **options)

    def until_heard(self, user):
        """The first call with this user."""
        return self.until(lambda ear: next((call for call in ear.calls if user in call["users"]), None))

    def until_heard_again(self, site, user):
        """Ring again and again, as one does not know when a way works again."""

        def heard():
            ring(site, f"streams.ring([{user}])")
            time.sleep(0.1)
            return user in self.users

        wait_until(heard, timeout=100, what="a ring after the fault")


def ring(site, code):
    """Run code in a process that ends at once; returns what it left in `at`."""
    return float(site.python(RING.format(code)).split()[-1])
