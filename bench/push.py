"""What a push costs, beside a stock Channels consumer on the same server and layer, in one run.

``python -m bench.push [--rounds 1] [--servers daphne,uvicorn] [--layers memory,redis] [--sockets 100,1000,8000]``

``crowd``: one user has all the sockets; each message goes to all of them, and the next is told when all have it.
``people``: 1,000 users with a socket each; ``all``: everybody is told at once; ``steady``: everybody in turn, 100
messages a second in all, so a message goes to one socket; ``steady-2``: the same, told by another process; ``storm``:
all were cut and come back, ours from their positions, until each has all it missed, which is nothing; ``storm-5``: five
messages to each, of which stock knows nothing; ``first``: all connect at once without a position, as new pages do.

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
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=1)
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
