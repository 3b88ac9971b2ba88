"""Measure the CPU time of idle processes: a worker, and a server without sockets, with one and with a thousand.

``python -m bench.idle [--base REVISION] [--rounds 5] [--seconds 5] [--only worker server]``

With ``--base`` the processes of that revision run beside those of this tree, with a database each. Figures are the
median of the rounds with the worst beside it, in percent of a core, and the wake-ups of all threads a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.clients import Client, Clients
from bench.guard import TREE, checked_out
from bench.measured_queue import Queue, process_cpu
from bench.queues import Places, TestSkipped, this_app
from bench.serving import Server

SOCKETS = (0, 1, 1000)
#: Seconds from the start of a process until it is measured.
WARM_UP_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", nargs="*", default=["worker", "server"])
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(checked_out(arguments.base))] if arguments.base else []
        data = Path(tempfile.mkdtemp(prefix="bench-idle-"))
        data.chmod(0o755)
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        places = Places(data)
        stack.callback(places.end)
        for kind, place, start in kinds(places, arguments.only):
            with contextlib.ExitStack() as sides:
                pids = {}
                for folder in [*folders, TREE]:
                    queue = this_app(kind, place())
                    queue.folder = folder
                    sides.callback(queue.end)
                    queue.call("prepare")
                    pids["base" if folder in folders else "now"] = start(queue, sides)
                time.sleep(WARM_UP_SECONDS)
                report(kind, pids, arguments.rounds, arguments.seconds)


def kinds(
    places: Places, only: list[str]
) -> Iterator[tuple[str, Callable[[], str], Callable[[Queue, contextlib.ExitStack], int]]]:
    """Yield the name of each measure, what makes a database, and what starts the process and returns its id."""
    if "worker" in only:
        yield "worker, SQLite", places.sqlite, start_worker
        with contextlib.suppress(TestSkipped):
            places.postgres()
            yield "worker, PostgreSQL", places.postgres, start_worker
    if "server" in only:
        for sockets in SOCKETS:
            start = partial(start_server, sockets=sockets)
            yield f"uvicorn, SQLite, {sockets} sockets", places.sqlite, start


def start_worker(queue: Queue, stack: contextlib.ExitStack) -> int:
    return stack.enter_context(queue.working()).pids[0]


def start_server(queue: Queue, stack: contextlib.ExitStack, sockets: int) -> int:
    server = stack.enter_context(Server("uvicorn", None, env=queue.environment, cwd=queue.folder))
    people = queue.call("create_users_with_sessions", sockets).value[:sockets]
    hello = json.dumps({"op": "hello", "epoch": None, "seq": 0})
    clients = Clients(None)
    stack.callback(clients.stop)
    clients.open(
        server.port,
        [Client(path="/ws/notifications/", session=session, hello=hello) for _, session in people],
    )
    return server.pid


def report(kind: str, pids: dict[str, int], rounds: int, seconds: float) -> None:
    shares: dict[str, list[float]] = {side: [] for side in pids}
    wake_ups: dict[str, list[float]] = {side: [] for side in pids}
    for _ in range(rounds):
        before = {
            side: (process_cpu(pid), count_wake_ups(pid), time.monotonic()) for side, pid in pids.items()
        }
        time.sleep(seconds)
        for side, pid in pids.items():
            cpu, count, start = before[side]
            elapsed = time.monotonic() - start
            shares[side].append((process_cpu(pid) - cpu) / elapsed * 100)
            wake_ups[side].append((count_wake_ups(pid) - count) / elapsed)
    for side in pids:
        print(
            f"{kind:28} {side:5} {statistics.median(shares[side]):6.2f} % of a core (worst {max(shares[side]):.2f}), "
            f"{statistics.median(wake_ups[side]):.0f} wake-ups/s",
            flush=True,
        )


def count_wake_ups(pid: int) -> int:
    """Return how often the threads of a process that are there now have waited and were woken."""
    count = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            status = (thread / "status").read_text()
            count += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return count


if __name__ == "__main__":
    main()
