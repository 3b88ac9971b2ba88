"""CPU of a server for each message delivered to a socket, and the time from commit to socket, beside stock Channels.

``python -m bench.push [--server daphne|uvicorn] [--sockets 1000] [--messages 50] [--rate 20] [--rounds 3]``

One user has all the sockets, in one server process on SQLite; messages are told one after the other at a fixed rate,
by a request to the same server. Ours is a notification: a committed, numbered row, sent to all sockets of the user.
Stock is ``group_send`` on the in-memory layer: no row, no order, no replay. They take turns,
on a fresh server each.
The garbage collector is on for both, with ``gc.freeze()`` after start for both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

import aiohttp

from bench.latency import answering, at, free_port, session
from bench.site import fresh


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--server", choices=["daphne", "uvicorn"], default="daphne")
    options.add_argument("--sockets", type=int, default=1000)
    options.add_argument("--messages", type=int, default=50)
    options.add_argument("--rate", type=float, default=20)
    options.add_argument("--rounds", type=int, default=3)
    told = options.parse_args()
    figures: dict[str, list[tuple[float, ...]]] = {"ours": [], "stock": []}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(told.rounds):
            for way in figures:
                asked = (way, told.server, told.sockets, told.messages, told.rate)
                figures[way].append(pool.apply(one_round, asked))
    print(
        f"{told.server}, {told.sockets} sockets of one user, {told.messages} messages at {told.rate:g} a second"
    )
    print(f"{'':>6} {'us a message':>13} {'p50 ms':>8} {'p99 ms':>8} {'KB a socket':>12} {'delivered':>10}")
    for way, rounds in figures.items():
        cpu, p50, p99, memory, delivered = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{way:>6} {cpu:13.1f} {p50:8.1f} {p99:8.1f} {memory:12.1f} {delivered:10.3f}")


def one_round(way: str, server: str, sockets: int, messages: int, rate: float) -> tuple[float, ...]:
    """Return CPU (us) a delivered message, p50 and p99 (ms), memory (KB) a socket, and the part that was delivered."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (sockets * 2 + 1000,) * 2)
    folder = fresh()
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench.settings"
    port = free_port()
    commands = {
        "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "bench.asgi:application"],
        "uvicorn": ["-m", "uvicorn", "--port", str(port), "--log-level", "error", "bench.asgi:application"],
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *commands[server]], **quiet)
    try:
        return asyncio.run(
            measure(way, f"http://127.0.0.1:{port}", session(), process.pid, sockets, messages, rate)
        )
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


async def measure(way, base, session_key, pid, sockets, messages, rate) -> tuple[float, ...]:
    times: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookies={"sessionid": session_key}) as http:
        await answering(http, base)
        empty = memory(pid)
        ready, arrived = asyncio.Semaphore(0), asyncio.Semaphore(0)
        listen = listen_ours if way == "ours" else listen_stock
        listening = []
        for start in range(0, sockets, 50):
            some = range(start, min(start + 50, sockets))
            listening += [asyncio.create_task(listen(http, base, ready, arrived, times)) for _ in some]
            for _ in some:
                await ready.acquire()
        held = (memory(pid) - empty) / sockets
        await asyncio.sleep(1)
        before = cpu(pid)
        for _ in range(messages):
            due = asyncio.get_running_loop().time() + 1 / rate
            async with http.post(f"{base}/tell/{way}/?users=1") as response:
                response.raise_for_status()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                for _ in range(sockets * messages):
                    await arrived.acquire()
        spent = cpu(pid) - before
        for task in listening:
            task.cancel()
    return (
        spent / max(1, len(times)) * 1e6,
        at(times, 0.5),
        at(times, 0.99),
        held,
        len(times) / sockets / messages,
    )


async def listen_ours(http, base: str, ready, arrived, times: list[float]) -> None:
    async with http.ws_connect(
        f"{base}/ws/notifications/", headers={"Origin": base}, protocols=["notifications.v1"]
    ) as ws:
        await ws.send_str('{"op":"hello","epoch":null,"seq":null}')
        async for message in ws:
            text = message.data
            if '"ack":true' in text:
                await ws.send_str(json.dumps({"op": "ack", "n": json.loads(text)["n"]}))
            if text.startswith('{"op":"change"') or text.startswith('{"op":"sync"'):
                now = time.time()
                frame = json.loads(text)
                if frame["op"] == "sync" and frame["reset"]:
                    ready.release()
                    continue
                for item in frame["items"]:
                    times.append((now - float(item["title"])) * 1000)
                    arrived.release()


async def listen_stock(http, base: str, ready, arrived, times: list[float]) -> None:
    async with http.ws_connect(f"{base}/ws/stock/", headers={"Origin": base}) as ws:
        ready.release()
        async for message in ws:
            now = time.time()
            times.append((now - float(json.loads(message.data)["title"])) * 1000)
            arrived.release()


def cpu(pid: int) -> float:
    """Seconds that a process has computed (user and system), all threads."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident memory of a process, KB."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


if __name__ == "__main__":
    main()
