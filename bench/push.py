"""What a push costs, beside a stock Channels consumer on the same server and layer, in one run.

``python -m bench.push [--rounds 3] [--servers daphne,uvicorn] [--layers memory,redis] [--sockets 100,1000,8000]``

``crowd``: one user has all the sockets; each message goes to all of them, and the next is told when all have it.
``people``: 1,000 users with a socket each; ``all``: everybody is told at once; ``steady``: everybody in turn, 100
messages a second in all, so a message goes to one socket; ``steady-2``: the same, told by another process; ``storm``:
all were cut and come back, ours from their positions.

Ours is a notification: a committed, numbered row. Stock is ``group_send``: no row, no order, no replay. CPU is that of
the server process, user and system, all threads, and includes the making of the rows; of Redis and of the clients it
is not counted. Times are from before the row is written (stock: before ``group_send``) until the client has read the
message. Both sides take turns on fresh servers; figures are medians of the rounds. No compression is negotiated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench import push_report
from bench.clients import Client, Clients
from bench.serving import SERVERS, Redis, Server

PEOPLE = 1000
#: Deliveries that a round of a crowd measures, about.
DELIVERIES = 40_000
#: Messages to all people, and seconds of steady telling.
TO_ALL = 5
STEADY = 10.0
STEADY_RATE = 100.0
#: Seconds between two messages to a crowd.
PAUSE = 0.02
PATHS = {"ours": "/ws/notifications/", "stock": "/ws/stock/"}
LAYERS = ("memory", "redis")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--servers", default=",".join(SERVERS))
    options.add_argument("--layers", default=",".join(LAYERS))
    options.add_argument("--sockets", default="100,1000,8000", help="sizes of the crowd; empty: none")
    options.add_argument("--no-people", action="store_true", help="leave out the 1,000 users")
    options.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
    options.add_argument("--plot", type=Path, help="draw CPU per message into this SVG file")
    told = options.parse_args()
    crowds = [int(size) for size in told.sockets.split(",") if size]
    limit = max([PEOPLE, *crowds]) * 2 + 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < max([PEOPLE, *crowds]) + 200:
        raise SystemExit(f"Only {hard} files may be open (ulimit -Hn); ask for fewer --sockets.")
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
    kinds = [*crowds, *([] if told.no_people else [0])]
    figures = push_report.Figures()
    began, layers = time.monotonic(), told.layers.split(",")
    failed: list[str] = []
    redis = Redis() if "redis" in layers else None
    try:
        for number in range(told.rounds):
            for server in told.servers.split(","):
                for layer in layers:
                    for crowd in kinds:
                        for way in ("ours", "stock"):
                            url = redis.url if redis and layer == "redis" else ""
                            try:
                                setup, found = apart(one_round, server, url, way, crowd)
                            except (Exception, SystemExit) as exc:  # an hour must not end for one round
                                failed.append(f"{server} {layer} {crowd or 'people'} {way}: {exc}")
                                print(failed[-1], file=sys.stderr)
                                continue
                            figures.add(server, layer, way, setup, found)
                            taken = f"{time.monotonic() - began:5.0f} s, round {number + 1}"
                            print(f"{taken}: {server} {layer} {crowd or 'people'} {way}", file=sys.stderr)
    finally:
        if redis:
            redis.stop()
    print(machine(), f"Medians of {told.rounds}.", sep="\n", end="\n\n")
    print(figures.text())
    print(*(f"Left out, for it failed: {what}" for what in failed), sep="\n")
    if told.json:
        told.json.write_text(json.dumps(figures.all, indent=1))
    if told.plot:
        told.plot.write_text(push_report.plot(figures))


def apart(work, *args: Any) -> Any:
    """Run a round in a process of its own: Django is set up on one database in a process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


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
        with Server(server, cores[0] if len(cores) > 1 else None) as running:
            measure = Measure(running, clients, way)
            found = measure.crowd(crowd, people) if crowd else measure.people(people, alone=not redis)
            clients.close()
            return running.get("setup/"), found
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
        found["storm"] = self.storm(people)
        return found

    def connect(self, people: list[tuple[int, str]]) -> float:
        """Connect these, and return KB of memory for each, once everything is quiet."""
        empty = self.server.memory()
        self.clients.open(self.server.port, self.as_clients(people, [("", 0)] * len(people)))
        time.sleep(3)
        return (self.server.memory() - empty) / len(people)

    def tell(self, sockets: int, messages: int) -> dict[str, float]:
        times: list[float] = []
        for number in range(messages + 1):
            if number == 1:  # the first one warms up
                times, before = [], self.server.cpu()
            self.server.get(f"tell/{self.way}")
            times += self.clients.arrived(sockets, within=120)
            time.sleep(PAUSE)
        return summary(self.server.cpu() - before, times, sockets * messages)

    def steady(self, start) -> dict[str, float]:
        before = self.server.cpu()
        started = start()
        times = list(self.clients.arrived(int(STEADY_RATE * STEADY), within=STEADY + 20))
        if isinstance(started, subprocess.Popen):
            started.wait()
        return summary(self.server.cpu() - before, times, int(STEADY_RATE * STEADY))

    def storm(self, people: list[tuple[int, str]]) -> dict[str, float]:
        again = self.as_clients(people, self.clients.positions())
        self.clients.close()
        time.sleep(5)
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


def summary(spent: float, times: list[float], due: int) -> dict[str, float]:
    in_order = sorted(times) or [float("nan")]
    return {
        "CPU us": spent / max(1, len(times)) * 1e6,
        "p50 ms": statistics.median(in_order) * 1000,
        "p99 ms": in_order[min(len(in_order) - 1, int(len(in_order) * 0.99))] * 1000,
        "delivered": len(times) / due,
    }


def machine() -> str:
    """The processor, the cores that may be used, and versions."""
    from importlib.metadata import version

    with open("/proc/cpuinfo") as cpuinfo:
        model = next(
            (line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "?"
        )
    names = ("Django", "channels", "channels_redis", "daphne", "autobahn", "Twisted", "uvicorn", "uvloop")
    versions = ", ".join(f"{name} {version(name)}" for name in (*names, "httptools", "websockets"))
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, {versions}."
    )


if __name__ == "__main__":
    main()
