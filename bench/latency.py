"""Measure the time from a job to its frames on a socket, with web and worker in one process or two.

``python -m bench.latency [--jobs 200] [--rounds 5] [--sockets 1]``

A view enqueues a job that returns at once, on SQLite and, where it is installed, on PostgreSQL. Jobs are enqueued one
at a time, 30 ms apart. ``first`` is from the call of ``enqueue`` to the first frame with the job, ``done`` from that
call to the frame with its notification, ``end`` from the return of its function to that frame. ``notify`` is from a
call of ``notify()`` in another process, 25 a second, to its frame. All are on one clock. The arrangements alternate;
every figure is the median of the rounds, in parentheses the worst.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from bench.queues import Places, TestSkipped
from bench.site import fresh

#: Jobs, and calls of notify(), that are not measured; and calls a second.
WARM_UP = 10
NOTIFY_RATE = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sockets", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-latency-"))
    folder.chmod(0o755)
    places = Places(folder)
    databases = {"SQLite": places.sqlite}
    with contextlib.suppress(TestSkipped):
        places.postgres()
        databases["PostgreSQL"] = places.postgres
    rounds: dict[tuple[str, int], list[dict[str, float]]] = {
        (database, processes): [] for database in databases for processes in (1, 2)
    }
    try:
        # Each round has its own process, because a process can set up Django with one database only.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for _ in range(arguments.rounds):
                for (database, processes), figures in rounds.items():
                    place = databases[database]()
                    figures.append(
                        pool.apply(one_round, (place, processes, arguments.jobs, arguments.sockets))
                    )
    finally:
        places.end()
        shutil.rmtree(folder)
    print(f"ms to a frame on the socket, {arguments.sockets} sockets, {arguments.jobs} jobs a round")
    for (database, processes), figures in rounds.items():
        print(f"{database}, web and worker in {processes} process{'es' if processes > 1 else ''}")
        for name in figures[0]:
            values = [figure[name] for figure in figures]
            print(f"{name:>16} {statistics.median(values):8.1f} ({max(values):.1f})")


def one_round(database: str, processes: int, jobs: int, sockets: int) -> dict[str, float]:
    """Return p50 and p99 in ms of each time."""
    folder = fresh(database)
    logging.disable(logging.WARNING)
    port = free_port()
    os.environ["EMBEDDED_WORKER"] = "1" if processes == 1 else "0"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    commands = [["-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "asyncsite.asgi:application"]]
    if processes == 2:
        commands.append(["manage.py", "run_jobs"])
    running = [subprocess.Popen([sys.executable, *command], **quiet) for command in commands]
    try:
        times = asyncio.run(measure(f"http://127.0.0.1:{port}", create_session(), jobs, sockets))
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)
        shutil.rmtree(folder)
    parts = {"p50": 0.5, "p99": 0.99}
    return {
        f"{name} {part}": percentile(values, parts[part]) for name, values in times.items() for part in parts
    }


def create_session() -> str:
    """Sign a user in and return the key of the session."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connections

    user = get_user_model().objects.create_user("bench")
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    connections.close_all()
    return store.session_key


async def measure(base: str, session_key: str, jobs: int, sockets: int) -> dict[str, list[float]]:
    """Return the times in ms of each job or notification on each socket, by their name."""
    frames = Frames()
    async with aiohttp.ClientSession(cookies={"sessionid": session_key}) as http:
        await wait_until_ready(http, base)
        listening = [asyncio.create_task(listen(http, base, number, frames)) for number in range(sockets)]
        await asyncio.sleep(2)
        enqueued_at: dict[str, float] = {}
        for number in range(jobs + WARM_UP):
            async with http.post(f"{base}/bench/enqueue/") as response:
                answer = await response.json()
            if number >= WARM_UP:
                enqueued_at[answer["id"]] = answer["called_at"]
            await frames.wait_for(lambda id=answer["id"]: (0, id) in frames.notified_at)
            await asyncio.sleep(0.03)
        command = ["-m", "bench.messages", str(NOTIFY_RATE), str((jobs + WARM_UP) / NOTIFY_RATE)]
        notifying = await asyncio.create_subprocess_exec(sys.executable, *command)
        await frames.wait_for(lambda: len(frames.after_notify) >= sockets * (jobs + WARM_UP))
        await notifying.wait()
        for task in listening:
            task.cancel()
    from notifications.api import aget_jobs

    ended_at = {str(id): job.result for id, job in (await aget_jobs(enqueued_at)).items()}
    return {
        name: [(at - since[id]) * 1000 for (_, id), at in arrivals.items() if id in enqueued_at]
        for name, arrivals, since in (
            ("first", frames.job_at, enqueued_at),
            ("done", frames.notified_at, enqueued_at),
            ("end", frames.notified_at, ended_at),
        )
    } | {"notify": [seconds * 1000 for seconds in frames.after_notify[sockets * WARM_UP :]]}


class Frames:
    """When frames arrived: by number of the socket and id of the job; for notify() the seconds since its call."""

    def __init__(self) -> None:
        self.job_at: dict[tuple[int, str], float] = {}
        self.notified_at: dict[tuple[int, str], float] = {}
        self.after_notify: list[float] = []
        self.arrived = asyncio.Event()

    def add(self, number: int, frame: dict, now: float) -> None:
        for item in [*frame.get("items", ()), *frame.get("jobs", ())]:
            if item["kind"] == "job":
                self.job_at.setdefault((number, item["id"]), now)
            elif item["job"]:
                self.notified_at.setdefault((number, item["job"]), now)
            else:
                self.after_notify.append(now - float(item["title"]))
        self.arrived.set()

    async def wait_for(self, has_arrived: Callable[[], bool]) -> None:
        while not has_arrived():
            self.arrived.clear()
            await self.arrived.wait()


async def listen(http, base: str, number: int, frames: Frames) -> None:
    async with http.ws_connect(
        f"{base}/ws/notifications/", headers={"Origin": base}, protocols=["notifications.v1"]
    ) as ws:
        await ws.send_str('{"op":"hello","epoch":null,"seq":null}')
        async for message in ws:
            now = time.time()
            frame = json.loads(message.data)
            if frame.get("ack"):
                await ws.send_str(json.dumps({"op": "ack", "n": frame["n"]}))
            frames.add(number, frame, now)


async def wait_until_ready(http, base: str) -> None:
    """Wait until the server responds, at most 30 s."""
    for _ in range(300):
        try:
            async with http.get(f"{base}/accounts/login/"):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)
    raise SystemExit(f"{base} does not respond.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


if __name__ == "__main__":
    main()
