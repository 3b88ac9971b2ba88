"""DBOS: workflows of steps in PostgreSQL, for bench/steps.py."""

from __future__ import annotations

import asyncio
import os
import time

import psycopg
from dbos import DBOS, DBOSClient

DATABASE = os.environ["DATABASE_URL"]
CONCURRENCY = 100
#: The default of 1 s would leave the worker idle: it takes at most 100 workflows at each poll.
POLLING_INTERVAL_SECONDS = 0.05


@DBOS.step()
async def next_turn(number: int) -> int:
    await asyncio.sleep(0)
    return number


@DBOS.workflow()
async def ten_steps(number: int) -> None:
    for step in range(10):
        await next_turn(step)


@DBOS.workflow()
async def nothing(number: int) -> None:
    pass


def launch() -> None:
    DBOS(config={"name": "bench", "system_database_url": DATABASE, "log_level": "WARNING"})
    DBOS.launch()


def prepare() -> None:
    """Create the tables and the queue, as a first start does."""
    launch()
    DBOS.register_queue(
        "steps", worker_concurrency=CONCURRENCY, polling_interval_sec=POLLING_INTERVAL_SECONDS
    )
    DBOS.destroy()


def enqueue_in_bulk(number: int, size: int, task: str) -> None:
    client = DBOSClient(system_database_url=DATABASE)
    for n in range(number):
        client.enqueue({"workflow_name": task, "queue_name": "steps"}, n)
    client.destroy()


def counts() -> tuple[int, int]:
    """Return how many workflows are queued, and how many run."""
    with psycopg.connect(DATABASE) as connection:
        rows = connection.execute("SELECT status, count(*) FROM dbos.workflow_status GROUP BY status")
        found = dict(rows.fetchall())
    return found.get("ENQUEUED", 0), found.get("PENDING", 0)


if __name__ == "__main__":
    launch()
    while True:
        time.sleep(1)
