"""Procrastinate: jobs in PostgreSQL, run by one asyncio loop a process."""

from __future__ import annotations

import asyncio
import os

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from bench.pickups import report_start

DATABASE = os.environ["DATABASE_URL"]

app = App(connector=PsycopgConnector(conninfo=DATABASE))


@app.task
async def nothing(number: int) -> None:
    pass


@app.task
async def second(number: int) -> None:
    await asyncio.sleep(1)


@app.task
async def pickup(port: int) -> None:
    report_start(port)


def prepare() -> None:
    with app.replace_connector(SyncPsycopgConnector(conninfo=DATABASE)) as sync, sync.open():
        sync.schema_manager.apply_schema()
    app.open()


def enqueue(number: int) -> None:
    for n in range(number):
        nothing.defer(number=n)


def enqueue_in_bulk(number: int) -> None:
    for start in range(0, number, 500):
        nothing.batch_defer(*({"number": n} for n in range(start, min(start + 500, number))))


def enqueue_seconds(number: int) -> None:
    for start in range(0, number, 500):
        second.batch_defer(*({"number": n} for n in range(start, min(start + 500, number))))


def enqueue_pickup(port: int) -> None:
    pickup.defer(port=port)


def counts() -> tuple[int, int]:
    """Return how many jobs are queued and how many run."""
    return count("todo"), count("doing")


def count(status: str) -> int:
    return (
        looking().execute(f"SELECT count(*) FROM procrastinate_jobs WHERE status = '{status}'").fetchone()[0]
    )


def fill(number: int) -> None:
    """Add finished jobs, without the three events that each has."""
    looking().execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts) "
        "SELECT 'default', 'bench.alternatives.procrastinate_postgres.nothing', '{\"number\": 1}', 'succeeded', 1 "
        f"FROM generate_series(1, {number})"
    )
    looking().execute("ANALYZE")


_connections: list[psycopg.Connection] = []


def looking() -> psycopg.Connection:
    if not _connections:
        _connections.append(psycopg.connect(DATABASE, autocommit=True))
    return _connections[0]
