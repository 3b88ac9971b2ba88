"""Tasks that wait. ``calls`` has what they have called, in this process."""

import asyncio
import contextlib
from datetime import timedelta

from django.db import transaction

from notifications.api import apause, pause, policy, task
from notifications.contrib.steps import astep, step
from notifications.contrib.webhooks import acallback, callback
from tests.jobs import tasks

calls = []
DAY = timedelta(days=1)


def call(name):
    calls.append(name)
    return name


@task
@policy(max_attempts=1)
async def pause_twice(duration_ms=86_400_000):
    calls.append("begin")
    await astep("first", call, "first")
    await apause("nap", timedelta(milliseconds=duration_ms))
    await astep("second", call, "second")
    await apause("rest", timedelta(milliseconds=duration_ms))
    return calls.count("begin")


@task
@policy(max_attempts=1)
def pause_sync(duration_ms=86_400_000):
    step("first", call, "first")
    pause("nap", timedelta(milliseconds=duration_ms))
    return step("second", call, "second")


@task
@policy(max_attempts=2, retry_on=(OSError,), timeout=2)
async def fail_after_pause():
    await apause("nap", DAY)
    calls.append("go on")
    if len(calls) < 2:
        raise OSError
    return len(calls)


@task
@policy(max_attempts=1)
async def swallow():
    with contextlib.suppress(BaseException):
        await apause("nap", DAY)
    return "ready"


@task
@policy(max_attempts=1)
async def handle_exceptions():
    try:
        await apause("nap", DAY)
    except Exception:
        return "caught"
    return "ready"


@task
@policy(max_attempts=1)
async def pause_in_group(kind):
    async def work():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            calls.append("cancelled")
            raise

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    if kind == "gather":
        await asyncio.gather(apause("nap", DAY), work())
    else:
        async with asyncio.TaskGroup() as group:
            group.create_task(apause("nap", DAY))
            group.create_task(work())
    working.cancel()


@task
@policy(max_attempts=1)
async def wrong(kind):
    match kind:
        case "name twice":
            await astep("nap", call, "nap")
            await apause("nap", DAY)
        case "duration":
            await apause("nap", timedelta())
        case "type":
            await apause("nap", 5)


@task
@policy(max_attempts=2, retry_on=(OSError,))
async def change_kind():
    if not calls:
        await astep("nap", call, "nap")
        raise OSError
    await apause("nap", DAY)


@task
@policy(max_attempts=1)
def pause_in_transaction():
    with transaction.atomic():
        pause("nap", DAY)


@task
async def noop():
    return await tasks.noop.func()


@task
@policy(max_attempts=1)
async def ask_bank(secret=None, expires_s=None):
    reply = await acallback("bank", secret, expires_s and timedelta(seconds=expires_s))
    await astep("ask", call, reply.url)
    return await reply.aresult()


@task
@policy(max_attempts=1)
def ask_bank_sync():
    reply = callback("bank")
    step("ask", call, reply.url)
    return reply.result()


@task
@policy(max_attempts=1)
def ask_two_banks():
    replies = [callback(name) for name in ("one", "two")]
    for number, reply in enumerate(replies):
        step(f"ask {number}", call, reply.url)
    return [reply.result() for reply in replies]


@task
@policy(max_attempts=1)
def nap_before_the_answer(count):
    reply = callback("bank")
    step("ask", call, reply.url)
    for number in range(count):
        pause(f"nap {number}", timedelta(minutes=30))
    return reply.result()


@task
def call_back_in_transaction():
    with transaction.atomic():
        callback("bank")
