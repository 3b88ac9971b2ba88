"""Compare the cost of a push with a stock Channels consumer on the same server and layer, in one run.

``python -m bench.push [--rounds 1] [--servers daphne,uvicorn] [--layers memory,redis] [--sockets 100,1000,8000]``

``crowd``: one user has all the sockets; each message goes to all of them, and the next is sent when all have it.
``people``: 1,000 users with a socket each; ``all``: all are notified at once; ``steady``: all in turn, 100 messages a
second in all, each to one socket; ``steady-2``: the same, sent by another process; ``storm``: all were disconnected and
reconnect, with this app from their positions, until each has its sync, in which nothing was missed; ``storm-5``: each
has missed five messages, which stock does not resend; ``first``: all connect at once without a position, as new pages.

With this app a message is a notification: a committed, numbered row. Stock uses ``group_send``: no row, no
order, no replay. CPU is that of the server process, user and system, all threads, and includes the inserts; Redis
and the clients are not counted. Latencies are from before the row is written (stock: before ``group_send``) until the
client has read the message. Both alternate on new servers; figures are medians of the rounds, without compression.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench import push_report
from bench.push_round import PEOPLE, one_round
from bench.serving import SERVERS, Redis

LAYERS = ("memory", "redis")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--sockets", default="100,1000,8000", help="sizes of the crowd; empty: none")
    parser.add_argument("--no-people", action="store_true", help="leave out the 1,000 users")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
    parser.add_argument("--plot", type=Path, help="draw CPU per message into this SVG file")
    arguments = parser.parse_args()
    crowds = [int(size) for size in arguments.sockets.split(",") if size]
    limit = max([PEOPLE, *crowds]) * 2 + 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < max([PEOPLE, *crowds]) + 200:
        raise SystemExit(f"Only {hard} files may be open (ulimit -Hn); use fewer --sockets.")
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
    kinds = [*crowds, *([] if arguments.no_people else [0])]
    figures = push_report.Figures()
    started, layers = time.monotonic(), arguments.layers.split(",")
    failed: list[str] = []
    redis = Redis() if "redis" in layers else None
    try:
        for number in range(arguments.rounds):
            for server in arguments.servers.split(","):
                for layer in layers:
                    for crowd in kinds:
                        for way in ("app", "stock"):
                            url = redis.url if redis and layer == "redis" else ""
                            try:
                                setup, found = run_in_process(one_round, server, url, way, crowd)
                            except (Exception, SystemExit) as exc:  # One round must not end the whole run.
                                failed.append(f"{server} {layer} {crowd or 'people'} {way}: {exc}")
                                print(failed[-1], file=sys.stderr)
                                continue
                            figures.add(server, layer, way, setup, found)
                            taken = f"{time.monotonic() - started:5.0f} s, round {number + 1}"
                            print(f"{taken}: {server} {layer} {crowd or 'people'} {way}", file=sys.stderr)
    finally:
        if redis:
            redis.stop()
    print(machine(), f"Medians of {arguments.rounds}.", sep="\n", end="\n\n")
    print(figures.text())
    print(*(f"Left out, for it failed: {what}" for what in failed), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures.all, indent=1))
    if arguments.plot:
        arguments.plot.write_text(push_report.plot(figures))


def run_in_process(work, *args: Any) -> Any:
    """Run a round in its own process, because a process can set up Django with one database only."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def machine() -> str:
    """Return the processor, the number of usable cores, and versions."""
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
