"""From asking for a job to its frames on a browser's socket, on SQLite: web and worker in one process, and in two.

``python -m bench.latency [--jobs 200] [--rounds 5] [--sockets 1]``

A view enqueues a job that does nothing; the times on one clock are those of the call of ``enqueue``, of the first frame
that shows the job, and of the frame with its notification. Jobs are asked for one at a time, 30 ms apart. The two
arrangements take turns; every figure is the median of the rounds.
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
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=200)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--sockets", type=int, default=1)
    told = options.parse_args()
    rounds: dict[int, list[list[float]]] = {1: [], 2: []}
    # Each round in a process of its own: Django is set up on one database in a process.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(told.rounds):
            for processes in rounds:
                rounds[processes].append(pool.apply(one_round, (processes, told.jobs, told.sockets)))
    print(
        f"ms from enqueue to a frame on the socket, SQLite, {told.sockets} sockets, {told.jobs} jobs a round"
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
        first, done = asyncio.run(ask(f"http://127.0.0.1:{port}", session(), jobs, sockets))
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)
        shutil.rmtree(folder)
    return [at(first, 0.5), at(first, 0.99), at(done, 0.5), at(done, 0.99)]


def session() -> str:
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


async def ask(base: str, session_key: str, jobs: int, sockets: int) -> tuple[list[float], list[float]]:
    """Return the times (ms) to the first frame, and to the notification, of each job on each socket."""
    first: dict[tuple[int, str], float] = {}
    told: dict[tuple[int, str], float] = {}
    asked: dict[str, float] = {}
    arrived = asyncio.Event()
    async with aiohttp.ClientSession(cookies={"sessionid": session_key}) as http:
        await answering(http, base)
        listening = [
            asyncio.create_task(listen(http, base, number, first, told, arrived)) for number in range(sockets)
        ]
        await asyncio.sleep(2)
        for number in range(jobs + 10):
            async with http.post(f"{base}/ask/") as response:
                answer = await response.json()
            if number >= 10:  # the first ones warm up
                asked[answer["id"]] = answer["asked_at"]
            while (0, answer["id"]) not in told:
                arrived.clear()
                await arrived.wait()
            await asyncio.sleep(0.03)
        for task in listening:
            task.cancel()
    return (
        [(at - asked[id]) * 1000 for (_, id), at in first.items() if id in asked],
        [(at - asked[id]) * 1000 for (_, id), at in told.items() if id in asked],
    )


async def listen(http, base: str, number: int, first: dict, told: dict, arrived: asyncio.Event) -> None:
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
                    told.setdefault((number, item["job"]), now)
                    arrived.set()


async def answering(http, base: str) -> None:
    """Wait until the server answers, at most 30 s."""
    for _ in range(300):
        try:
            async with http.get(f"{base}/accounts/login/"):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)
    raise SystemExit(f"{base} does not answer.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def at(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


if __name__ == "__main__":
    main()
