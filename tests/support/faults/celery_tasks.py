"""Tasks of the tests with Celery, beside those of tasks.py. Each is tried often enough to outlive many kills."""

import asyncio
import ctypes
import time

from notifications.api import ajoin, join, policy, task
from tests.support.faults.tasks import write_effect

#: More attempts than one round kills processes.
MAX_ATTEMPTS = 20


class Busy(Exception):
    """An error after which the job is tried again."""

    retry_after = 0.1


@task(takes_context=True)
@policy(max_attempts=MAX_ATTEMPTS)
async def run_async(context, seconds):
    write_effect(context, "started")
    await asyncio.sleep(seconds)
    write_effect(context, "done")


@task(takes_context=True)
@policy(max_attempts=MAX_ATTEMPTS)
def run_sync(context, seconds):
    write_effect(context, "started")
    time.sleep(seconds)
    write_effect(context, "done")


@task(takes_context=True)
@policy(max_attempts=MAX_ATTEMPTS, retry_on=(Busy,))
async def fail_once(context, seconds):
    """Fail in the first attempt, if that is not lost."""
    write_effect(context, "started")
    await asyncio.sleep(seconds)
    if context.attempt == 1:
        raise Busy
    write_effect(context, "done")


@task(takes_context=True)
@policy(max_attempts=MAX_ATTEMPTS, concurrency_key="one")
async def run_keyed(context, seconds):
    """Run while no other job of this task runs."""
    write_effect(context, "started")
    await asyncio.sleep(seconds)
    write_effect(context, "done")


@task(takes_context=True)
@policy(max_attempts=MAX_ATTEMPTS)
async def join_child(context, seconds):
    write_effect(context, "started")
    await ajoin(await run_async.aenqueue(seconds), timeout=120)
    write_effect(context, "done")


@task(takes_context=True)
@policy(max_attempts=MAX_ATTEMPTS)
def join_child_sync(context, seconds):
    write_effect(context, "started")
    join(run_sync.enqueue(seconds), timeout=120)
    write_effect(context, "done")


@task(takes_context=True)
@policy(timeout=0.5, max_attempts=2)
def block_interpreter_once(context, seconds):
    """Stop all threads of the process in the first attempt, as a faulty extension module does."""
    write_effect(context, "started")
    if context.attempt == 1:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # PyDLL keeps the interpreter's lock
    write_effect(context, "done")


KINDS = (run_async, run_sync, fail_once, run_keyed, join_child, join_child_sync)
