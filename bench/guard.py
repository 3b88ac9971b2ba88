"""Compare what this tree costs with what an earlier revision cost, and fail if something became dearer.

``python -m bench.guard [--base REVISION] [--tolerance 5] [--only WORD …]``

Measured by turns are the CPU time of a job (of the worker), of an enqueued job (one by one and in bulk), of a push and
of a reconnect (of a server), and the bytes of the inbox page with its files. CPU time is that of the processes of the
app, on SQLite and, where it is installed, on PostgreSQL, without the database server. A figure is the median of the
ratios of neighboring turns. It fails if it is more than ``--tolerance`` percent above 1 and the turns agree: on a busy
machine, where ratios of equal trees scatter around 1, so many of them are above 1 by chance in one of 200 runs at most.
Both trees run the benchmarks of this one. It takes at most 90 s on a machine with two free cores.

``--base`` is by default the last release: the newest tag before HEAD, else the commit that ``bench/guard_base.txt``
names, else the commit before HEAD. Where there is none, as in a shallow clone, nothing is compared. ``--only`` selects
measures by these words: jobs, enqueued, push, reconnect, page.

What a change is meant to cost is written into its commit, as a line ``Dearer: WORD, REASON``: figures whose name has
the word are listed, with the reason, and do not fail.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.clients import Client, Clients
from bench.measured_queue import Queue, Workers
from bench.queues import Places, TestSkipped, this_app
from bench.serving import Server

TREE = Path(__file__).resolve().parent.parent
#: Turns of a measure, of which each runs both trees: the most, and the least when its seconds are over.
MAX_TURNS, MIN_TURNS = 15, 8
JOBS_SECONDS, PUSH_SECONDS, RECONNECT_SECONDS = 18.0, 6.0, 12.0
#: Jobs in a turn, and those that are enqueued one by one.
JOBS, SINGLE_JOBS = 1000, 100
#: Users with a socket each, and messages to all of them in a turn.
USERS, MESSAGES = 400, 4
PAGES = ("/notifications/",)
#: After MIN_TURNS a measure ends before its seconds are over if all its medians are at most this: more turns of equal
#: trees say nothing, and those of a tree that is dearer by more than the tolerance have a median below it by chance
#: only if they scatter so much that no number of turns would agree.
SETTLED_RATIO = 1.02
#: How likely it may be that equal trees look unequal by chance.
MAX_CHANCE = 0.005

#: Measures the next turn of a side: the name of each figure and its value.
Turn = Callable[[], dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="")
    parser.add_argument("--tolerance", type=float, default=5, help="percent")
    parser.add_argument("--only", nargs="*", default=["jobs", "push", "reconnect", "page"])
    arguments = parser.parse_args()
    base = arguments.base or find_base()
    if not base:
        print("Nothing is compared: no earlier revision is available.")
        return
    # The order of sets and dictionaries would differ from process to process, and with it their cost.
    os.environ["PYTHONHASHSEED"] = "0"
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(checked_out(base))
        figures = compare(folder, stack, set(arguments.only))
    print(
        f"{TREE.name} against {git('describe', '--tags', '--always', base)}, {time.monotonic() - start:.0f} s"
    )
    dearer = report(figures, 1 + arguments.tolerance / 100)
    for word, reason in re.findall(
        r"^Dearer: (\w+), (.+)$", git("log", "--format=%B", f"{base}..HEAD"), re.M
    ):
        print(f"Meant to be dearer: {word}, {reason}")
        dearer = [name for name in dearer if word not in name.split()]
    if dearer:
        sys.exit(f"Dearer than {base} by more than {arguments.tolerance:g} %: {', '.join(dearer)}")


def find_base() -> str:
    """Return the revision to compare with, or an empty string."""
    if tag := git("describe", "--tags", "--abbrev=0", "HEAD^"):
        return tag
    named = TREE / "bench" / "guard_base.txt"
    for revision in (named.read_text().strip() if named.exists() else "", "HEAD^"):
        if revision and (commit := git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")):
            return commit
    return ""


def git(*arguments: str) -> str:
    """Return the output of a command of git, empty if it fails."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(TREE), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Yield a folder with the tree of a revision, and with the benchmarks of this tree."""
    folder = Path(tempfile.mkdtemp(prefix="bench-guard-"))
    folder.chmod(0o755)
    try:
        archive = subprocess.Popen(["git", "-C", str(TREE), "archive", revision], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
        if archive.wait():
            raise SystemExit(f"git archive {revision} failed.")
        for name in ("bench", "tests"):
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(TREE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder
    finally:
        shutil.rmtree(folder)


def compare(base: Path, stack: contextlib.ExitStack, only: set[str]) -> dict[str, list[tuple[float, float]]]:
    """Return pairs of values, of the base and of this tree, by the name of the figure."""
    data = Path(tempfile.mkdtemp(prefix="bench-guard-data-"))
    data.chmod(0o755)
    stack.callback(shutil.rmtree, data)
    places = Places(data)
    stack.callback(places.end)
    databases = {"SQLite": places.sqlite}
    with contextlib.suppress(TestSkipped):
        places.postgres()
        databases["PostgreSQL"] = places.postgres
    figures: dict[str, list[tuple[float, float]]] = {}
    for name, place in databases.items():
        with contextlib.ExitStack() as sides:
            queues = [this_app(name, place()) for _ in range(2)]
            for queue, folder in zip(queues, (base, TREE), strict=True):
                queue.folder = folder
                sides.callback(queue.end)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda queue: queue.call("prepare"), queues))
            if only & {"jobs", "enqueued"}:
                with contextlib.ExitStack() as workers:
                    turns = [job_turn(queue, workers.enter_context(queue.working())) for queue in queues]
                    alternate(turns, JOBS_SECONDS, figures)
            if name == "SQLite" and only & {"push", "reconnect"}:
                measure_sockets(queues, figures)
            if name == "SQLite" and "page" in only:
                for page in PAGES:
                    weights = [queue.call("weigh", page).value for queue in queues]
                    figures[f"bytes of {page} with its files"] = [(weights[0], weights[1])]
    return figures


def alternate(turns: list[Turn], seconds: float, figures: dict[str, list[tuple[float, float]]]) -> None:
    """Run turns of both sides, in alternating order; the first of each is a warm-up."""
    until = time.monotonic() + seconds
    found: dict[int, dict[str, float]] = {}
    for number in range(MAX_TURNS + 1):
        if number > MIN_TURNS and (
            time.monotonic() > until or is_settled([figures[name] for name in found[0]])
        ):
            break
        order = (0, 1) if number % 2 else (1, 0)
        found = {side: turns[side]() for side in order}
        for name in found[0] if number else ():
            figures.setdefault(name, []).append((found[0][name], found[1][name]))


def is_settled(figures: list[list[tuple[float, float]]]) -> bool:
    """Return whether no figure looks dearer than before."""
    return all(statistics.median(now / before for before, now in pairs) <= SETTLED_RATIO for pairs in figures)


def job_turn(queue: Queue, workers: Workers) -> Turn:
    def run() -> dict[str, float]:
        before = workers.precise_cpu()
        in_bulk = queue.call("enqueue_in_bulk", JOBS)
        wait_until_done(queue)
        worker = workers.precise_cpu() - before
        single = queue.call("enqueue", SINGLE_JOBS)
        wait_until_done(queue)
        return {
            f"µs of CPU a job, {queue.name}": worker / JOBS * 1e6,
            f"µs of CPU to enqueue one by one, {queue.name}": single.cpu / SINGLE_JOBS * 1e6,
            f"µs of CPU to enqueue in bulk, {queue.name}": in_bulk.cpu / JOBS * 1e6,
        }

    return run


def wait_until_done(queue: Queue) -> None:
    give_up_at = time.monotonic() + 60
    while any(queue.call("counts").value):
        if time.monotonic() > give_up_at:
            raise SystemExit(f"{queue.name}: jobs are still active after 60 s.\n{queue.read_log()}")
        time.sleep(0.02)


def measure_sockets(queues: list[Queue], figures: dict[str, list[tuple[float, float]]]) -> None:
    with contextlib.ExitStack() as stack:
        sides = []
        for queue in queues:
            people = queue.call("create_users_with_sessions", USERS - 100).value
            server = stack.enter_context(Server("uvicorn", None, env=queue.environment, cwd=queue.folder))
            clients = Clients(None)
            stack.callback(clients.stop)
            sides.append(Sockets(server, clients, [session for _, session in people]))
        alternate([side.push for side in sides], PUSH_SECONDS, figures)
        for side in sides:
            side.begin_reconnects()
        alternate([side.reconnect for side in sides], RECONNECT_SECONDS, figures)


class Sockets:
    """A server and a client of each user, all connected."""

    def __init__(self, server: Server, clients: Clients, sessions: list[str]) -> None:
        self.server = server
        self.clients = clients
        self.sessions = sessions
        self.connect([("", 0)] * len(sessions))

    def connect(self, positions: list[tuple[str, int]]) -> None:
        self.clients.open(
            self.server.port,
            [
                Client(
                    path="/ws/notifications/",
                    session=session,
                    hello=json.dumps({"op": "hello", "epoch": epoch or None, "seq": seq}),
                )
                for session, (epoch, seq) in zip(self.sessions, positions, strict=True)
            ],
        )

    def push(self) -> dict[str, float]:
        before, expected = self.server.cpu(), len(self.sessions)
        for _ in range(MESSAGES):
            self.server.get("send/app")
            arrived = len(self.clients.arrived(expected, within=30))
            if arrived < expected:
                raise SystemExit(f"{arrived} of {expected} messages have arrived after 30 s.")
        return {"µs of CPU a push": (self.server.cpu() - before) / expected / MESSAGES * 1e6}

    def begin_reconnects(self) -> None:
        self._cpu = self.server.cpu()

    def reconnect(self) -> dict[str, float]:
        """Reconnect all, and return what the server has used since the last call.

        It reads the sessions of new connections once more 2 s later, which is counted in the turn after that.
        """
        positions = self.clients.positions()
        self.clients.close()
        self.connect(positions)
        time.sleep(0.4)
        before, self._cpu = self._cpu, self.server.cpu()
        return {"µs of CPU a reconnect": (self._cpu - before) / len(self.sessions) * 1e6}


def report(figures: dict[str, list[tuple[float, float]]], limit: float) -> list[str]:
    """Print a table of the figures, and return the names of those that are above ``limit``."""
    dearer = []
    for name, pairs in figures.items():
        ratios = sorted(now / before for before, now in pairs)
        ratio = statistics.median(ratios)
        is_dearer = ratio > limit and (len(ratios) == 1 or is_agreed(ratios))
        before, now = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(
            f"{name:42} {before:8.1f} -> {now:8.1f} {ratio - 1:+7.1%}  "
            f"({len(ratios)} turns: {ratios[0]:.2f} to {ratios[-1]:.2f}){'  DEARER' * is_dearer}"
        )
        if is_dearer:
            dearer.append(name)
    return dearer


def is_agreed(ratios: list[float]) -> bool:
    """Whether more of these ratios are above 1 than chance explains, by a sign test."""
    number, above = len(ratios), sum(ratio > 1 for ratio in ratios)
    chance = sum(math.comb(number, count) for count in range(above, number + 1)) / 2**number
    return chance <= MAX_CHANCE


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
