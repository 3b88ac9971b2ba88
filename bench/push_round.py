"""One round of ``bench.push``: a fresh server, and what is done with it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence

from bench.clients import Client, Clients
from bench.serving import Server

PEOPLE = 1000
#: Deliveries that a round of a crowd measures, about, and the seconds after which no further message is told: a stock
#: server takes longer for a single one to 8,000 sockets.
DELIVERIES = 40_000
ENOUGH = 20.0
#: Messages to all people, and seconds of steady telling.
TO_ALL = 5
STEADY = 10.0
STEADY_RATE = 100.0
#: Storms of which the median counts, and messages that are missed before a further one.
STORMS = 3
MISSED = 5
#: Seconds between two messages to a crowd.
PAUSE = 0.02
PATHS = {"ours": "/ws/notifications/", "stock": "/ws/stock/", "nchan": "/ws/nchan/"}
APPLICATIONS = {"ours": "bench.asgi:application", "stock": "bench.stock:application"}


def one_round(server: str, redis: str, way: str, crowd: int) -> tuple[dict, dict[str, dict[str, float]]]:
    """Return how the server was set up, and the figures by name: of a crowd of that many sockets, or (0) of people."""
    # Only now, in the process of this round.
    from bench.people import signed_in
    from bench.site import fresh

    cores = sorted(os.sched_getaffinity(0))
    folder = fresh()
    os.environ["BENCH_LAYER"] = redis
    people = signed_in(1 if crowd else PEOPLE)
    # Two cores at least: the server has one, everybody else another.
    clients = Clients(cores[1] if len(cores) > 1 else None)
    try:
        with Server(server, cores[0] if len(cores) > 1 else None, APPLICATIONS[way]) as running:
            measure, setup = Measure(running, clients, way), running.get("setup/")
            found = measure.crowd(crowd, people) if crowd else measure.people(people, alone=not redis)
            clients.stop()  # before the server: they would complain of its end
            return setup, found
    finally:
        clients.stop()
        shutil.rmtree(folder)


class Measure:
    """What is done with one server."""

    def __init__(self, server: Server, clients: Clients, way: str) -> None:
        self.server = server
        self.clients = clients
        self.way = way
        server.get(f"tell/{way}")  # whatever is imported and made at first use is there now

    def crowd(self, size: int, people: list[tuple[int, str]]) -> dict[str, dict[str, float]]:
        held = self.connect(people * size)
        found = self.tell(size, min(100, max(3, DELIVERIES // size)))
        return {f"crowd {size}": found | {"KB a socket": held}}

    def people(self, people: list[tuple[int, str]], alone: bool) -> dict[str, dict[str, float]]:
        held = self.connect(people)
        found = {"all": self.tell(len(people), TO_ALL) | {"KB a socket": held}}
        found["steady"] = self.steady(lambda: self.server.get(f"tell/keep-{self.way}?{STEADY_RATE},{STEADY}"))
        if self.way == "ours" and alone:
            command = [sys.executable, "-m", "bench.telling", str(STEADY_RATE), str(STEADY)]
            found["steady-2"] = self.steady(lambda: subprocess.Popen(command))
        for what, first in (("storm", False), ("first", True)):
            storms = [self.storm(people, first=first) for _ in range(STORMS)]
            found[what] = {name: statistics.median(storm[name] for storm in storms) for name in storms[0]}
        if self.way == "ours":
            found[f"storm-{MISSED}"] = self.storm(people, missed=MISSED)
        return found

    def connect(self, people: list[tuple[int, str]]) -> float:
        """Connect these, and return KB of memory for each, once everything is quiet."""
        empty = self.server.memory()
        self.clients.open(self.server.port, self.as_clients(people, [("", 0)] * len(people)))
        time.sleep(3)
        self.server.rest()
        return (self.server.memory() - empty) / len(people)

    def tell(self, sockets: int, messages: int) -> dict[str, float]:
        before, until = self.server.cpu(), time.monotonic() + ENOUGH
        times, told = self.tell_once(sockets), 1
        if time.monotonic() < until:  # that one has warmed up, and does not count
            before, until = self.server.cpu(), time.monotonic() + ENOUGH
            times, told = array("d"), 0
        while told < messages and time.monotonic() < until:
            times += self.tell_once(sockets)
            told += 1
        return summary(self.server.cpu() - before, times, sockets * told)

    def tell_once(self, sockets: int) -> array:
        self.server.get(f"tell/{self.way}")
        times = self.clients.arrived(sockets, within=120)
        time.sleep(PAUSE)
        return times

    def steady(self, start) -> dict[str, float]:
        before = self.server.cpu()
        started = start()
        times = self.clients.arrived(int(STEADY_RATE * STEADY), within=STEADY + 20)
        if isinstance(started, subprocess.Popen):
            started.wait()
        return summary(self.server.cpu() - before, times, int(STEADY_RATE * STEADY))

    def storm(self, people: list[tuple[int, str]], missed: int = 0, first: bool = False) -> dict[str, float]:
        positions = [("", 0)] * len(people) if first else self.clients.positions()
        again = self.as_clients(people, positions)
        self.clients.close()
        for _ in range(missed):
            self.server.get(f"tell/{self.way}")
        time.sleep(1)
        self.server.rest()
        asked, before = self.server.get("setup/")["queries"], self.server.cpu()
        seconds = self.clients.open(self.server.port, again)
        spent = self.server.cpu() - before
        time.sleep(4)  # ours reads the sessions of who has joined once more, 2 s later
        now = self.server.get("setup/")["queries"]
        queries = {name: now[name] - asked.get(name, 0) for name in now}
        return {
            "connections/s": len(people) / seconds,
            "CPU us": spent / len(people) * 1e6,
            "queries each": sum(queries.values()) / len(people),
            "session and user": (queries.get("SELECT django_session", 0) + queries.get("SELECT auth_user", 0))
            / len(people),
        }

    def as_clients(self, people: list[tuple[int, str]], positions: list[tuple[str, int]]) -> list[Client]:
        hello = [json.dumps({"op": "hello", "epoch": epoch or None, "seq": seq}) for epoch, seq in positions]
        return [
            Client(path=PATHS[self.way], session=session, hello=text if self.way == "ours" else None)
            for (_, session), text in zip(people, hello, strict=True)
        ]


def summary(spent: float, times: Sequence[float], due: int) -> dict[str, float]:
    in_order = sorted(times) or [float("nan")]
    return {
        "CPU us": spent / max(1, len(times)) * 1e6,
        "p50 ms": statistics.median(in_order) * 1000,
        "p99 ms": in_order[min(len(in_order) - 1, int(len(in_order) * 0.99))] * 1000,
        "delivered": len(times) / due,
    }
