"""Absurd: tasks of steps in PostgreSQL, by its SDK, for bench/steps.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd, AsyncAbsurd

DATABASE = os.environ["DATABASE_URL"]
POLL_INTERVAL_SECONDS = 0.05


def prepare() -> None:
    program = Path(sys.executable).with_name("absurdctl")
    subprocess.run([program, "init", "-d", DATABASE], check=True, capture_output=True)
    Absurd(DATABASE, queue_name="steps").create_queue()


def enqueue_in_bulk(number: int, size: int, task: str) -> None:
    client = Absurd(DATABASE, queue_name="steps")
    for n in range(number):
        client.spawn(task, {"number": n}, queue="steps")
    client.close()


def counts() -> tuple[int, int]:
    """Return how many tasks are queued, and how many run."""
    with psycopg.connect(DATABASE) as connection:
        rows = connection.execute("SELECT state, count(*) FROM absurd.t_steps GROUP BY state")
        found = dict(rows.fetchall())
    return found.get("pending", 0), found.get("running", 0) + found.get("sleeping", 0)


async def work(concurrency: int) -> None:
    client = AsyncAbsurd(DATABASE, queue_name="steps")

    @client.register_task("nothing")
    async def nothing(parameters: Any, context: Any) -> None:
        pass

    @client.register_task("ten_steps")
    async def ten_steps(parameters: Any, context: Any) -> None:
        for step in range(10):

            async def next_turn(number: int = step) -> int:
                await asyncio.sleep(0)
                return number

            await context.step(f"step {step}", next_turn)

    await client.start_worker(concurrency=concurrency, poll_interval=POLL_INTERVAL_SECONDS)


if __name__ == "__main__":
    asyncio.run(work(100))
