"""No request or frame of one client makes other clients wait, on Daphne and uvicorn with their usual options."""

import os
import resource
import statistics
import time

import pytest

from tests.faults.support.attacks import ANONYMOUS_ATTACKS, ATTACKS, Target
from tests.faults.support.bystanders import Bystanders
from tests.faults.support.engine import ROUNDS
from tests.support.network import is_listening
from tests.support.waiting import wait_until

#: The additional time that other clients may wait during an attack, on a machine that is as fast as the one of the
#: measurements: there count_slowly() takes so many seconds of CPU.
MAX_STALL_SECONDS, REFERENCE_CPU_SECONDS = 0.25, 0.05
#: The smallest of several measurements counts, because other processes use the machine too.
TRIES = 5
#: The growth of the server after the attacks, and at its peak.
MAX_GROWTH_MB, MAX_PEAK_MB = 80, 128
LARGE_ATTACKS = [
    *("a form of 15 MB", "a file of 15 MB", "100,000 parts", "JSON of 20 MB", "500,000 chunks of one byte"),
    *("Prefer of 100 kB of quotes and separators", "300,000 empty fragments", "100,000 messages"),
]

CREATE_SESSIONS = """
from django.contrib.auth import get_user_model
from django.test import Client
for name in ("demo", "other"):
    client = Client()
    client.force_login(get_user_model().objects.get(username=name))
    print(client.cookies["sessionid"].value)
"""
SERVERS = {
    # Daphne's default backlog of 50 connections is not tested here.
    "daphne": ("-m", "daphne", "-e", "tcp:port={port}:interface=127.0.0.1:backlog=2048"),
    "uvicorn": ("-m", "uvicorn", "--port", "{port}"),
}


def count_slowly():
    texts = {}
    for number in range(200_000):
        texts[number % 1000] = str(number)


def measure_slowness():
    """Return how many times as long as on the machine of the measurements Python's code takes here and now."""
    seconds = []
    for _ in range(9):
        before = time.thread_time()
        count_slowly()
        seconds.append(time.thread_time() - before)
    return max(1.0, statistics.median(seconds) / REFERENCE_CPU_SECONDS)


class AttackedServer:
    """A server with other clients, and the time that these wait without an attack."""

    def __init__(self, site, bystanders, session):
        self.site, self.bystanders, self.session = site, bystanders, session
        self.pid = site.web.pid
        # The smaller of two, because an earlier attack may still have effects.
        self.baseline = min(self._measure_baseline() for _ in range(2))
        self.memory_at_start = self.memory()

    def _measure_baseline(self):
        return self.bystanders.measure(time.sleep, 1.0).worst

    def measure_stall_again(self, name, *, signed_in):
        """Return what measure_stall() returns, less what other clients wait now: the machine may have become busy."""
        busier = max(self._measure_baseline() - self.baseline, 0.0)
        return self.measure_stall(name, signed_in=signed_in) - busier

    def measure_stall(self, name, *, signed_in):
        """Return the additional seconds that other clients wait during an attack; fail if its response is a 5xx.

        Time beyond the CPU time of the server is due to other processes.
        """
        target = Target(port=self.site.port, session=self.session if signed_in else "")
        responses = []
        before = self.cpu_seconds()
        waits = self.bystanders.measure(lambda: responses.append(ATTACKS[name](target)))
        assert not (responses[0] or b"").startswith(b"HTTP/1.1 5"), responses
        return min(waits.worst - self.baseline, self.cpu_seconds() - before)

    def cpu_seconds(self):
        """Return the CPU time that the server has used."""
        with open(f"/proc/{self.pid}/stat") as stat:
            return sum(map(int, stat.read().split()[13:15])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field="VmRSS"):
        """Return the resident memory in MB, or its peak (VmHWM)."""
        with open(f"/proc/{self.pid}/status") as status:
            (line,) = (line for line in status if line.startswith(f"{field}:"))
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
    session, other = site.python(CREATE_SESSIONS).split()
    bystanders = Bystanders(site, session)
    yield AttackedServer(site, bystanders, other)
    bystanders.close()
    site.close()


@pytest.mark.nightly_names(
    "*[daphne-500,000 chunks of one byte]",
    "*[daphne-a form of 1 MB of*",
    "*[daphne-a form of 1 MB]",
    "*[daphne-a form of 15 MB]",
    "*[daphne-a form of 2 MB of escapes]",
    "*[uvicorn-*]",
)
@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize("name", ATTACKS)
def test_other_clients_do_not_wait_for_a_hostile_one(attacked, name):
    """The long form attacks several times, with and without a session."""
    for number in range(1 + ROUNDS // 20):
        signed_in = (name not in ANONYMOUS_ATTACKS) ^ (number % 2)
        stalls = [attacked.measure_stall(name, signed_in=signed_in)]
        while len(stalls) < TRIES and min(stalls) > MAX_STALL_SECONDS:
            stalls.append(attacked.measure_stall_again(name, signed_in=signed_in))
        slowness = 1.0 if min(stalls) <= MAX_STALL_SECONDS else measure_slowness()
        report = f"{name}: {', '.join(f'{stall:.3f}' for stall in stalls)} s, slowness {slowness:.1f}"
        print(report)
        assert min(stalls) <= MAX_STALL_SECONDS * slowness, report


@pytest.mark.nightly
@pytest.mark.timeout(120 + ROUNDS)
def test_memory_is_released(attacked):
    """After the attacks the server's memory returns to its initial level, and its peak is limited."""
    for _ in range(2 + ROUNDS // 20):
        for name in LARGE_ATTACKS:
            attacked.measure_stall(name, signed_in=name not in ANONYMOUS_ATTACKS)
    wait_until(
        lambda: attacked.memory() - attacked.memory_at_start < MAX_GROWTH_MB,
        what=f"memory to return from {attacked.memory()} MB to about {attacked.memory_at_start} MB",
    )
    print(
        f"{attacked.memory_at_start} MB, then {attacked.memory()} MB, at most {attacked.memory('VmHWM')} MB"
    )
    assert attacked.memory("VmHWM") - attacked.memory_at_start < MAX_PEAK_MB
