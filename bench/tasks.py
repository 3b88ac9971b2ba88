"""Tasks that do nothing, to measure what is around them. With Django's own ``@task``: any backend runs them."""

import asyncio

from bench.pickups import say
from notifications.api import task


@task
async def nothing(number: int) -> None:
    """Return at once."""


@task
def nothing_sync(number: int) -> None:
    """Return at once: for workers that run one job at a time, which an event loop for each would slow down."""


@task
async def second(number: int) -> None:
    """Wait for somebody else, as a call of an upstream does."""
    await asyncio.sleep(1)


@task
async def here(port: int) -> None:
    """Say to ``port`` when this began."""
    say(port)


@task
def here_sync(port: int) -> None:
    """The same, for workers that run one job at a time."""
    say(port)
