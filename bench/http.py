"""Asking over HTTP, and waiting: ``accepted`` beside a stock view that saves one row, and long polls by the thousand.

``python -m bench.http [--rounds 5] [--answers 2000] [--polls 1000] [--servers daphne,uvicorn] [--json FILE]``

Each server runs alone on a core, on a fresh SQLite file with the options of ``make run``; the client has another core.
The ways of asking take turns in each round, 16 requests at once, each of one of 100 people who are signed in. Costs are
CPU time of the server, which other work on the machine disturbs less than the clock. Figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import time
import uuid
from collections import defaultdict
from pathlib import Path

import aiohttp

from bench.people import signed_in
from bench.serving import SERVERS, Server
from bench.site import fresh

AT_ONCE, ASKERS = 16, 100
#: Long polls that begin in a second.
COME = 200
STOCK, ASTOCK = "a row, sync view", "a row, async view"
#: What is asked: its path, whether each request has an ``Idempotency-Key`` of its own, and what it is compared with.
WAYS = {
    STOCK: ("bench/row/", False, STOCK),
    "accepted": ("bench/accepted/", False, STOCK),
    "accepted, with a key": ("bench/accepted/", True, STOCK),
    ASTOCK: ("bench/arow/", False, ASTOCK),
    "aaccepted": ("bench/aaccepted/", False, ASTOCK),
    "aaccepted, with a key": ("bench/aaccepted/", True, ASTOCK),
}

Figures = dict[tuple[str, str], list[float]]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--answers", type=int, default=2000, help="of each way and round")
    options.add_argument("--polls", type=int, default=1000, help="that wait at once, each of another person")
    options.add_argument("--servers", default="daphne,uvicorn")
    options.add_argument("--json", type=Path, help="a file for all figures")
    told = options.parse_args()
    servers = told.servers.split(",")
    if unknown := set(servers) - set(SERVERS):
        options.error(f"--servers: {unknown.pop()} is none of {', '.join(SERVERS)}")
    folder = fresh()
    try:
        people = [key for _, key in signed_in(max(told.polls, ASKERS))]
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[1]})
        found = {name: asyncio.run(measured(name, cores[0], people, told)) for name in servers}
    finally:
        shutil.rmtree(folder)
    for name, figures in found.items():
        print(f"\n{name}\n\n{table(figures)}")
    if told.json:
        plain = {name: {", ".join(key): of for key, of in figures.items()} for name, figures in found.items()}
        told.json.write_text(json.dumps(plain, indent=1))


async def measured(name: str, core: int, people: list[str], told: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    for number in range(told.rounds):
        with Server(name, core) as server:
            async with session() as client:
                for way in WAYS:
                    await asked(server, client, way, people[:ASKERS], 100)  # warm
                    before, start = server.cpu(), time.monotonic()
                    await asked(server, client, way, people[:ASKERS], told.answers)
                    figures[way, "answers/s"].append(told.answers / (time.monotonic() - start))
                    figures[way, "CPU us"].append((server.cpu() - before) / told.answers * 1e6)
                    await asyncio.to_thread(empty)
        with Server(name, core) as server:
            async with session() as client:
                await waited(server, client, people[: told.polls], figures)
        print(f"{name}, round {number + 1} of {told.rounds}", flush=True)
    return figures


async def asked(
    server: Server, client: aiohttp.ClientSession, way: str, people: list[str], count: int
) -> None:
    """Ask so often, and have all answers. Raises SystemExit for one that is not what it should be."""
    path, keyed, _ = WAYS[way]
    numbers = iter(range(count))

    async def ask() -> None:
        for number in numbers:
            headers = as_somebody(people[number % len(people)])
            if keyed:
                headers["Idempotency-Key"] = uuid.uuid4().hex
            async with client.post(f"http://127.0.0.1:{server.port}/{path}", headers=headers) as answer:
                body = await answer.read()
                if answer.status not in (201, 202):
                    raise SystemExit(f"{way}: {answer.status} {body[:300]!r}")

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))


async def waited(server: Server, client: aiohttp.ClientSession, people: list[str], figures: Figures) -> None:
    """Let everybody wait at once; see what that holds, and what it does to a page that is asked for meanwhile."""
    home = f"http://127.0.0.1:{server.port}"

    async def poll(person: str, seconds: int) -> int:
        headers = {**as_somebody(person), "Prefer": f"wait={seconds}", "If-None-Match": "*"}
        async with client.get(f"{home}/notifications/api/sync/", headers=headers) as answer:
            await answer.read()
            return answer.status

    async def page() -> tuple[float, float]:
        times, before = [], server.cpu()
        for _ in range(200):
            start = time.perf_counter()
            async with client.get(f"{home}/reports/", headers=as_somebody(people[0])) as answer:
                await answer.read()
                assert answer.status == 200, answer.status
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1000, (server.cpu() - before) / len(times) * 1e6

    # What comes with the first ones, such as threads and connections, is no cost of one more.
    await asyncio.gather(*(poll(person, 1) for person in people[:50]))
    await page()
    figures["GET /reports/", "p50 ms, alone"].append((await page())[0])
    before = server.memory()
    polls = []
    for person in people:  # as they come, not all at once: the crowd at the door is no cost of waiting
        polls.append(asyncio.create_task(poll(person, 20)))
        await asyncio.sleep(1 / COME)
    held, until = 0.0, time.monotonic() + 5
    while (now := server.memory()) > held and time.monotonic() < until:  # all of them are there
        held = now
        await asyncio.sleep(1)
    figures["long polls", "KB each"].append((held - before) / len(polls))
    figures["long polls", "held per MB"].append(len(polls) * 1024 / max(held - before, 1))
    figures["GET /reports/", "p50 ms, while they wait"].append((await page())[0])
    if early := sum(poll.done() for poll in polls):
        raise SystemExit(f"{early} of {len(polls)} long polls did not wait: {polls[0]}")
    statuses = await asyncio.gather(*polls)
    if set(statuses) != {304}:
        raise SystemExit(f"Long polls were answered {set(statuses)}.")


def empty() -> None:
    """Delete what was asked for: a person may have 1,000 active jobs."""
    from asyncsite.models import Report
    from notifications.models import Job, Ring

    for model in (Job, Report, Ring):
        model.objects.all().delete()


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


def as_somebody(key: str) -> dict[str, str]:
    from django.conf import settings

    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={key}"}


def table(figures: Figures) -> str:
    """Return all figures as Markdown; each way of asking beside the stock view of its kind, round by round."""
    lines = ["| asked | answers/s | CPU us an answer | times the stock view's CPU |", "|---|---:|---:|---:|"]
    for way, (_, _, stock) in WAYS.items():
        pairs = zip(figures[way, "CPU us"], figures[stock, "CPU us"], strict=True)
        rate, cpu = (statistics.median(figures[way, what]) for what in ("answers/s", "CPU us"))
        times = statistics.median(ours / theirs for ours, theirs in pairs)
        lines.append(f"| {way} | {rate:,.0f} | {cpu:,.0f} | {times:.2f} |")
    lines += ["", "| waiting | |", "|---|---:|"]
    lines += [
        f"| {name}: {what} | {statistics.median(values):,.1f} |"
        for (name, what), values in figures.items()
        if name not in WAYS
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
