"""Tasks that do nothing, to measure the queues. They use Django's own ``@task``, so that any backend runs them."""

import asyncio
import time

from bench.pickups import report_start
from notifications.api import policy, task


@task
async def nothing(number: int) -> None:
    """Return at once."""


@task
async def time_of_end() -> float:
    """Return the time."""
    return time.time()


@task
async def ten_steps(number: int) -> None:
    """Store ten steps."""
    # Older trees, beside which bench.guard runs this file, have no steps.
    from notifications.contrib.steps import astep

    for step in range(10):
        await astep(f"step {step}", _next_turn, step)


@task
async def ask(number: int) -> str:
    """Ask the owner, and return the answer."""
    try:
        from notifications.contrib.questions import aquestion
    except ImportError:  # Older trees, beside which bench.guard runs this file, had it elsewhere.
        from notifications.api import aquestion

    return await aquestion("Ship to the new address?", name="ship", choices={"yes": "Ship", "no": "Keep"})


async def _next_turn(number: int) -> int:
    await asyncio.sleep(0)
    return number


@task
def nothing_sync(number: int) -> None:
    """Return at once. For workers that run one job at a time, and would need an event loop for each."""


@task
async def second(number: int) -> None:
    """Wait, like a call of an upstream."""
    await asyncio.sleep(1)


@task
async def short(number: int) -> None:
    """Wait a little."""
    await asyncio.sleep(0.05)


@task
def short_sync(number: int) -> None:
    """The same, for workers that run one job at a time."""
    time.sleep(0.05)


@task
async def minute(number: int) -> None:
    """Wait, like a call of a slow upstream."""
    await asyncio.sleep(60)


@task
async def pickup(port: int) -> None:
    """Report the start to ``port``."""
    report_start(port)


@task
def pickup_sync(port: int) -> None:
    """The same, for workers that run one job at a time."""
    report_start(port)


@task
async def pickup_since(port: int, kind: str, since: float) -> None:
    """Report to ``port`` for how long the job has waited."""
    report_start(port, kind, since)


@task
@policy(max_attempts=20, retry_on=(ConnectionError,), backoff=1, notify=False)
async def unreachable(number: int) -> None:
    """Fail, like a call of an upstream that is away, and be retried after a pause."""
    raise ConnectionError("The upstream is away.")
