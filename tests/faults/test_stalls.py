"""One client cannot make the others wait, whatever it sends, on a Daphne and a uvicorn as any project starts them."""

import os
import resource
import time

import pytest

from tests.faults.support.attacks import KINDS, OF_STRANGERS, Target
from tests.faults.support.engine import ROUNDS
from tests.faults.support.stalls import Crowd
from tests.support.network import is_listening
from tests.support.waiting import wait_until

#: What others may wait more than they do without the attack.
STALL_SECONDS = 0.25
#: This machine has other work: the least of some tries counts.
TRIES = 3
#: What the server may keep, and what it may take meanwhile.
KEPT_MB, PEAK_MB = 80, 128
HEAVY = [
    *("a form of 15 MB", "a file of 15 MB", "100,000 parts", "JSON of 20 MB", "500,000 chunks of one byte"),
    *("Prefer of 100 kB of quotes and separators", "300,000 empty fragments", "100,000 messages"),
]

SIGNED_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
for name in ("demo", "other"):
    client = Client()
    client.force_login(get_user_model().objects.get(username=name))
    print(client.cookies["sessionid"].value)
"""
SERVERS = {
    # By default Daphne lets 50 connections wait, which is not what is tried here.
    "daphne": ("-m", "daphne", "-e", "tcp:port={port}:interface=127.0.0.1:backlog=2048"),
    "uvicorn": ("-m", "uvicorn", "--port", "{port}"),
}


class Attacked:
    """A server with a crowd of clients, and how long these wait when nothing happens."""

    def __init__(self, site, crowd, session):
        self.site, self.crowd, self.session = site, crowd, session
        self.pid = site.web.pid
        # The calmer of two seconds: what an attack leaves behind is not counted as calm.
        self.calm = min(crowd.waits(time.sleep, 1.0).worst for _ in range(2))
        self.start = self.memory()

    def stall(self, kind, *, signed_in):
        """Seconds that others wait more than without an attack, which is not answered with an error of the server.

        What exceeds the time that the server had of the processors is other work of this machine.
        """
        target = Target(port=self.site.port, session=self.session if signed_in else "")
        answers = []
        before = self.processor_seconds()
        waits = self.crowd.waits(lambda: answers.append(KINDS[kind](target)))
        assert not (answers[0] or b"").startswith(b"HTTP/1.1 5"), answers
        return min(waits.worst - self.calm, self.processor_seconds() - before)

    def processor_seconds(self):
        """What the server has had of the processors."""
        with open(f"/proc/{self.pid}/stat") as stat:
            return sum(map(int, stat.read().split()[13:15])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what="VmRSS"):
        """MB that are resident, or (VmHWM) were at the most."""
        with open(f"/proc/{self.pid}/status") as status:
            (line,) = (line for line in status if line.startswith(f"{what}:"))
        return int(line.split()[1]) // 1024


@pytest.fixture(scope="module", params=SERVERS)
def attacked(request, sites):
    pytest.importorskip(request.param)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    site = sites.make()
    site.environment["EMBEDDED_WORKER"] = "0"
    site.notifications["SOCKETS_PER_USER"] = 1000
    command = [part.format(port=site.port) for part in SERVERS[request.param]]
    site.web = site.start("web", *command, "asyncsite.asgi:application")
    site.web.wait_until(lambda: is_listening(site.port), what="the server to listen")
    session, other = site.python(SIGNED_IN).split()
    crowd = Crowd(site, session)
    yield Attacked(site, crowd, other)
    crowd.close()
    site.close()


@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_waits_for_a_hostile_client(attacked, kind):
    """The long form attacks several times, and signed in as well as not."""
    for round in range(1 + ROUNDS // 20):
        signed_in = (kind not in OF_STRANGERS) ^ (round % 2)
        stalls = []
        while len(stalls) < TRIES and min(stalls, default=1.0) > STALL_SECONDS:
            stalls.append(attacked.stall(kind, signed_in=signed_in))
        told = f"{kind}: {', '.join(f'{stall:.3f}' for stall in stalls)} s"
        print(told)
        assert min(stalls) <= STALL_SECONDS, told


@pytest.mark.timeout(120 + ROUNDS)
def test_memory_comes_back(attacked):
    """And was never much."""
    for _ in range(2 + ROUNDS // 20):
        for kind in HEAVY:
            attacked.stall(kind, signed_in=kind not in OF_STRANGERS)
    wait_until(
        lambda: attacked.memory() - attacked.start < KEPT_MB,
        what=f"memory to come back from {attacked.memory()} MB to about {attacked.start} MB",
    )
    print(f"{attacked.start} MB, then {attacked.memory()} MB, at most {attacked.memory('VmHWM')} MB")
    assert attacked.memory("VmHWM") - attacked.start < PEAK_MB
