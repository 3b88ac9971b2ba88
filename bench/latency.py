"""Measure the time from enqueueing a job to its frames on a socket, with web and worker in one process or two.

``python -m bench.latency [--jobs 200] [--rounds 5] [--sockets 1]``

A view enqueues an empty job on SQLite. The times are those of the call of ``enqueue``, of the first frame with the job,
and of the frame with its notification, on one clock. Jobs are enqueued one at a time, 30 ms apart. The two arrangements
alternate; every figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time

import aiohttp

from bench.site import fresh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sockets", type=int, default=1)
    arguments = parser.parse_args()
    rounds: dict[int, list[list[float]]] = {1: [], 2: []}
    # Each round has its own process, because a process can set up Django with one database only.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(arguments.rounds):
            for processes in rounds:
                rounds[processes].append(
                    pool.apply(one_round, (processes, arguments.jobs, arguments.sockets))
                )
    print(
        f"ms from enqueue to a frame on the socket, SQLite, {arguments.sockets} sockets, {arguments.jobs} jobs a round"
    )
    print(f"{'processes':>10} {'first p50':>10} {'first p99':>10} {'done p50':>10} {'done p99':>10}")
    for processes, figures in rounds.items():
        medians = [statistics.median(column) for column in zip(*figures, strict=True)]
        print(f"{processes:>10} " + " ".join(f"{figure:10.1f}" for figure in medians))


def one_round(processes: int, jobs: int, sockets: int) -> list[float]:
    """Return p50 and p99 (ms) to the first frame, p50 and p99 to the notification."""
    folder = fresh()
    logging.disable(logging.WARNING)
    port = free_port()
    os.environ["EMBEDDED_WORKER"] = "1" if processes == 1 else "0"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    commands = [["-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "asyncsite.asgi:application"]]
    if processes == 2:
        commands.append(["manage.py", "run_jobs"])
    running = [subprocess.Popen([sys.executable, *command], **quiet) for command in commands]
    try:
        first, done = asyncio.run(run_jobs(f"http://127.0.0.1:{port}", create_session(), jobs, sockets))
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)
        shutil.rmtree(folder)
    return [percentile(first, 0.5), percentile(first, 0.99), percentile(done, 0.5), percentile(done, 0.99)]


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


async def run_jobs(base: str, session_key: str, jobs: int, sockets: int) -> tuple[list[float], list[float]]:
    """Return the times (ms) to the first frame, and to the notification, of each job on each socket."""
    first: dict[tuple[int, str], float] = {}
    notified_at: dict[tuple[int, str], float] = {}
    enqueued_at: dict[str, float] = {}
    arrived = asyncio.Event()
    async with aiohttp.ClientSession(cookies={"sessionid": session_key}) as http:
        await wait_until_ready(http, base)
        listening = [
            asyncio.create_task(listen(http, base, number, first, notified_at, arrived))
            for number in range(sockets)
        ]
        await asyncio.sleep(2)
        for number in range(jobs + 10):
            async with http.post(f"{base}/bench/enqueue/") as response:
                answer = await response.json()
            if number >= 10:  # The first ones are a warm-up.
                enqueued_at[answer["id"]] = answer["called_at"]
            while (0, answer["id"]) not in notified_at:
                arrived.clear()
                await arrived.wait()
            await asyncio.sleep(0.03)
        for task in listening:
            task.cancel()
    return (
        [(at - enqueued_at[id]) * 1000 for (_, id), at in first.items() if id in enqueued_at],
        [(at - enqueued_at[id]) * 1000 for (_, id), at in notified_at.items() if id in enqueued_at],
    )


async def listen(
    http, base: str, number: int, first: dict, notified_at: dict, arrived: asyncio.Event
) -> None:
    async with http.ws_connect(
        f"{base}/ws/notifications/", headers={"Origin": base}, protocols=["notifications.v1"]
    ) as ws:
        await ws.send_str('{"op":"hello","epoch":null,"seq":null}')
        async for message in ws:
            now = time.time()
            frame = json.loads(message.data)
            if frame.get("ack"):
                await ws.send_str(json.dumps({"op": "ack", "n": frame["n"]}))
            for item in [*frame.get("items", ()), *frame.get("jobs", ())]:
                if item["kind"] == "job":
                    first.setdefault((number, item["id"]), now)
                else:
                    notified_at.setdefault((number, item["job"]), now)
                    arrived.set()


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
