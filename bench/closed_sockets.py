"""Measure the memory that a server keeps when thousands of sockets have closed.

``python -m bench.closed_sockets [--sockets 5000] [--waves 3] [--servers daphne uvicorn]``

A wave opens the sockets, of 1,000 users, waits until the server is idle, closes all, and reads the resident memory 15 s
later. The memory before the first wave is that of a server which has served a tenth as many sockets before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time

from bench.clients import Client, Clients
from bench.serving import SERVERS, Server
from bench.site import fresh

USERS = 1000
#: Seconds from the closes until the memory is read.
SETTLE_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--waves", type=int, default=3)
    parser.add_argument("--servers", nargs="*", default=list(SERVERS))
    arguments = parser.parse_args()
    from bench.sessions import create_users_with_sessions

    folder = fresh()
    cores = sorted(os.sched_getaffinity(0))
    people = create_users_with_sessions(USERS)
    hello = json.dumps({"op": "hello", "epoch": None, "seq": 0})
    try:
        for name in arguments.servers:
            with Server(name, cores[0]) as server:
                clients = Clients(cores[-1])

                def wave(
                    count: int, server: Server = server, clients: Clients = clients
                ) -> tuple[float, float]:
                    """Return the memory (KB) with the sockets open, and after they have closed."""
                    sessions = [people[number % USERS][1] for number in range(count)]
                    clients.open(
                        server.port,
                        [Client(path="/ws/notifications/", session=one, hello=hello) for one in sessions],
                    )
                    server.wait_until_idle()
                    opened = server.memory()
                    clients.close()
                    time.sleep(SETTLE_SECONDS)
                    return opened, server.memory()

                _, before = wave(arguments.sockets // 10)
                for number in range(1, arguments.waves + 1):
                    opened, closed = wave(arguments.sockets)
                    print(
                        f"{name:8} wave {number}: {(opened - before) / arguments.sockets:.1f} KiB a socket open, "
                        f"{(closed - before) / arguments.sockets:.1f} KiB kept after {arguments.sockets} closed",
                        flush=True,
                    )
                clients.stop()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
