"""Measure enqueueing over HTTP, compared with a plain view that saves one row, and thousands of waiting long polls.

``python -m bench.http [--rounds 5] [--answers 2000] [--polls 1000] [--servers daphne,uvicorn] [--json FILE]``

Each server runs alone on a core, on a new SQLite file with the options of ``make run``; the client has another core.
The views alternate in each round, with 16 concurrent requests of 100 signed-in users. Costs are CPU time of the server,
which other work on the machine disturbs less than elapsed time. Figures are medians of the rounds.
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

from bench.serving import SERVERS, Server
from bench.sessions import create_users_with_sessions
from bench.site import fresh

CONCURRENT_REQUESTS, USER_COUNT = 16, 100
#: Long polls started in a second.
POLLS_PER_SECOND = 200
PLAIN, APLAIN = "a row, sync view", "a row, async view"
#: Views: the path, whether each request has its own ``Idempotency-Key``, and the view to compare with.
VIEWS = {
    PLAIN: ("bench/row/", False, PLAIN),
    "accepted": ("bench/accepted/", False, PLAIN),
    "accepted, with a key": ("bench/accepted/", True, PLAIN),
    APLAIN: ("bench/arow/", False, APLAIN),
    "aaccepted": ("bench/aaccepted/", False, APLAIN),
    "aaccepted, with a key": ("bench/aaccepted/", True, APLAIN),
}

Figures = dict[tuple[str, str], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=2000, help="responses for each view and round")
    parser.add_argument("--polls", type=int, default=1000, help="concurrent long polls, each of another user")
    parser.add_argument("--servers", default="daphne,uvicorn")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    arguments = parser.parse_args()
    servers = arguments.servers.split(",")
    if unknown := set(servers) - set(SERVERS):
        parser.error(f"--servers: {unknown.pop()} is none of {', '.join(SERVERS)}")
    folder = fresh()
    try:
        sessions = [key for _, key in create_users_with_sessions(max(arguments.polls, USER_COUNT))]
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[1]})
        found = {name: asyncio.run(measure(name, cores[0], sessions, arguments)) for name in servers}
    finally:
        shutil.rmtree(folder)
    for name, figures in found.items():
        print(f"\n{name}\n\n{table(figures)}")
    if arguments.json:
        plain = {name: {", ".join(key): of for key, of in figures.items()} for name, figures in found.items()}
        arguments.json.write_text(json.dumps(plain, indent=1))


async def measure(name: str, core: int, sessions: list[str], arguments: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    for number in range(arguments.rounds):
        with Server(name, core) as server:
            async with make_client() as client:
                for view in VIEWS:
                    await send_requests(server, client, view, sessions[:USER_COUNT], 100)  # warm
                    before, start = server.cpu(), time.monotonic()
                    await send_requests(server, client, view, sessions[:USER_COUNT], arguments.answers)
                    figures[view, "responses/s"].append(arguments.answers / (time.monotonic() - start))
                    figures[view, "CPU us"].append((server.cpu() - before) / arguments.answers * 1e6)
                    await asyncio.to_thread(empty)
        with Server(name, core) as server:
            async with make_client() as client:
                await measure_long_polls(server, client, sessions[: arguments.polls], figures)
        print(f"{name}, round {number + 1} of {arguments.rounds}", flush=True)
    return figures


async def send_requests(
    server: Server, client: aiohttp.ClientSession, view: str, sessions: list[str], count: int
) -> None:
    """Send `count` requests and read all responses; raise SystemExit for an unexpected one."""
    path, keyed, _ = VIEWS[view]
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            headers = session_headers(sessions[number % len(sessions)])
            if keyed:
                headers["Idempotency-Key"] = uuid.uuid4().hex
            async with client.post(f"http://127.0.0.1:{server.port}/{path}", headers=headers) as response:
                body = await response.read()
                if response.status not in (201, 202):
                    raise SystemExit(f"{view}: {response.status} {body[:300]!r}")

    await asyncio.gather(*(send() for _ in range(CONCURRENT_REQUESTS)))


async def measure_long_polls(
    server: Server, client: aiohttp.ClientSession, sessions: list[str], figures: Figures
) -> None:
    """Hold many long polls; measure their memory, and the time of a page beside them."""
    home = f"http://127.0.0.1:{server.port}"

    async def poll(session_key: str, seconds: int) -> int:
        headers = {**session_headers(session_key), "Prefer": f"wait={seconds}", "If-None-Match": "*"}
        async with client.get(f"{home}/notifications/api/sync/", headers=headers) as response:
            await response.read()
            return response.status

    async def page() -> tuple[float, float]:
        times, before = [], server.cpu()
        for _ in range(200):
            start = time.perf_counter()
            async with client.get(f"{home}/reports/", headers=session_headers(sessions[0])) as response:
                await response.read()
                assert response.status == 200, response.status
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1000, (server.cpu() - before) / len(times) * 1e6

    # A warm-up: threads and connections of the first polls are not a cost of another one.
    await asyncio.gather(*(poll(session_key, 1) for session_key in sessions[:50]))
    await page()
    figures["GET /reports/", "p50 ms, alone"].append((await page())[0])
    before = server.memory()
    polls = []
    for session_key in sessions:  # Not all at once, because the rush of handshakes is not a cost of waiting.
        polls.append(asyncio.create_task(poll(session_key, 20)))
        await asyncio.sleep(1 / POLLS_PER_SECOND)
    used, until = 0.0, time.monotonic() + 5
    while (now := server.memory()) > used and time.monotonic() < until:  # Until all of them are waiting.
        used = now
        await asyncio.sleep(1)
    figures["long polls", "KB each"].append((used - before) / len(polls))
    figures["long polls", "held per MB"].append(len(polls) * 1024 / max(used - before, 1))
    figures["GET /reports/", "p50 ms, while they wait"].append((await page())[0])
    if early := sum(poll.done() for poll in polls):
        raise SystemExit(f"{early} of {len(polls)} long polls ended early: {polls[0]}")
    statuses = await asyncio.gather(*polls)
    if set(statuses) != {304}:
        raise SystemExit(f"Unexpected statuses of long polls: {set(statuses)}.")


def empty() -> None:
    """Delete jobs and reports: a user may have 1,000 active jobs."""
    from asyncsite.models import Report
    from notifications.models import Job

    for model in (Job, Report):
        model.objects.all().delete()


def make_client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


def session_headers(key: str) -> dict[str, str]:
    from django.conf import settings

    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={key}"}


def table(figures: Figures) -> str:
    """Return all figures as Markdown; each view is compared with the plain view of its kind, round by round."""
    lines = [
        "| view | responses/s | µs of CPU a response | times the plain view's CPU |",
        "|---|---:|---:|---:|",
    ]
    for view, (_, _, plain) in VIEWS.items():
        pairs = zip(figures[view, "CPU us"], figures[plain, "CPU us"], strict=True)
        rate, cpu = (statistics.median(figures[view, column]) for column in ("responses/s", "CPU us"))
        times = statistics.median(cpu / plain_cpu for cpu, plain_cpu in pairs)
        lines.append(f"| {view} | {rate:,.0f} | {cpu:,.0f} | {times:.2f} |")
    lines += ["", "| waiting | |", "|---|---:|"]
    lines += [
        f"| {name}: {what} | {statistics.median(values):,.1f} |"
        for (name, what), values in figures.items()
        if name not in VIEWS
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
