"""One round of ``bench.push``: the measurements with a new server."""

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
#: The approximate deliveries in a round with many sockets, and the time after which no further message is sent: a stock
#: server takes longer for a single one to 8,000 sockets.
DELIVERIES = 40_000
MAX_SENDING_SECONDS = 20.0
#: Messages to all users, and the duration and rate of messages to users in turn.
MESSAGES_TO_ALL = 5
STEADY_SECONDS = 10.0
STEADY_RATE = 100.0
#: Reconnects of all users, whose median counts, and the missed messages before another one.
STORMS = 3
MISSED_MESSAGES = 5
#: Between two messages to many sockets.
PAUSE_SECONDS = 0.02
PATHS = {"app": "/ws/notifications/", "stock": "/ws/stock/", "nchan": "/ws/nchan/"}
APPLICATIONS = {"app": "bench.asgi:application", "stock": "bench.stock_consumer:application"}


def one_round(server: str, redis: str, way: str, crowd: int) -> tuple[dict, dict[str, dict[str, float]]]:
    """Return the setup of the server and the figures: of one user with `crowd` sockets, or with 0 of many users."""
    # Imported in the process of this round.
    from bench.sessions import create_users_with_sessions
    from bench.site import fresh

    cores = sorted(os.sched_getaffinity(0))
    folder = fresh()
    os.environ["BENCH_LAYER"] = redis
    people = create_users_with_sessions(1 if crowd else PEOPLE)
    # With two cores the server has one, all clients the other.
    clients = Clients(cores[1] if len(cores) > 1 else None)
    try:
        with Server(server, cores[0] if len(cores) > 1 else None, APPLICATIONS[way]) as running:
            measure, setup = Measure(running, clients, way), running.get("setup/")
            found = measure.crowd(crowd, people) if crowd else measure.people(people, alone=not redis)
            clients.stop()  # Before the server: clients raise an error when it ends.
            return setup, found
    finally:
        clients.stop()
        shutil.rmtree(folder)


class Measure:
    """The measurements with one server."""

    def __init__(self, server: Server, clients: Clients, way: str) -> None:
        self.server = server
        self.clients = clients
        self.way = way
        server.get(f"send/{way}")  # A warm-up of lazy imports.

    def crowd(self, size: int, people: list[tuple[int, str]]) -> dict[str, dict[str, float]]:
        kilobytes = self.connect(people * size)
        found = self.send_repeatedly(size, min(100, max(3, DELIVERIES // size)))
        return {f"crowd {size}": found | {"KB a socket": kilobytes}}

    def people(self, people: list[tuple[int, str]], alone: bool) -> dict[str, dict[str, float]]:
        kilobytes = self.connect(people)
        found = {"all": self.send_repeatedly(len(people), MESSAGES_TO_ALL) | {"KB a socket": kilobytes}}
        found["steady"] = self.steady(
            lambda: self.server.get(f"send/in-turn-{self.way}?{STEADY_RATE},{STEADY_SECONDS}")
        )
        if self.way == "app" and alone:
            command = [sys.executable, "-m", "bench.messages", str(STEADY_RATE), str(STEADY_SECONDS)]
            found["steady-2"] = self.steady(lambda: subprocess.Popen(command))
        for what, first in (("storm", False), ("first", True)):
            storms = [self.storm(people, first=first) for _ in range(STORMS)]
            found[what] = {name: statistics.median(storm[name] for storm in storms) for name in storms[0]}
        if self.way == "app":
            found[f"storm-{MISSED_MESSAGES}"] = self.storm(people, missed=MISSED_MESSAGES)
        return found

    def connect(self, people: list[tuple[int, str]]) -> float:
        """Connect users, and return the KB of memory for each once the server is idle."""
        empty = self.server.memory()
        self.clients.open(self.server.port, self.as_clients(people, [("", 0)] * len(people)))
        time.sleep(3)
        self.server.wait_until_idle()
        return (self.server.memory() - empty) / len(people)

    def send_repeatedly(self, sockets: int, messages: int) -> dict[str, float]:
        before, until = self.server.cpu(), time.monotonic() + MAX_SENDING_SECONDS
        times, sent = self.send_once(sockets), 1
        if time.monotonic() < until:  # The first message was a warm-up and does not count.
            before, until = self.server.cpu(), time.monotonic() + MAX_SENDING_SECONDS
            times, sent = array("d"), 0
        while sent < messages and time.monotonic() < until:
            times += self.send_once(sockets)
            sent += 1
        return summary(self.server.cpu() - before, times, sockets * sent)

    def send_once(self, sockets: int) -> array:
        self.server.get(f"send/{self.way}")
        times = self.clients.arrived(sockets, within=120)
        time.sleep(PAUSE_SECONDS)
        return times

    def steady(self, start) -> dict[str, float]:
        before = self.server.cpu()
        started = start()
        times = self.clients.arrived(int(STEADY_RATE * STEADY_SECONDS), within=STEADY_SECONDS + 20)
        if isinstance(started, subprocess.Popen):
            started.wait()
        return summary(self.server.cpu() - before, times, int(STEADY_RATE * STEADY_SECONDS))

    def storm(self, people: list[tuple[int, str]], missed: int = 0, first: bool = False) -> dict[str, float]:
        positions = [("", 0)] * len(people) if first else self.clients.positions()
        again = self.as_clients(people, positions)
        self.clients.close()
        for _ in range(missed):
            self.server.get(f"send/{self.way}")
        time.sleep(1)
        self.server.wait_until_idle()
        queries_before, before = self.server.get("setup/")["queries"], self.server.cpu()
        seconds = self.clients.open(self.server.port, again)
        spent = self.server.cpu() - before
        time.sleep(4)  # This app reads the sessions of new connections once more 2 s later.
        now = self.server.get("setup/")["queries"]
        queries = {name: now[name] - queries_before.get(name, 0) for name in now}
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
            Client(path=PATHS[self.way], session=session, hello=text if self.way == "app" else None)
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
