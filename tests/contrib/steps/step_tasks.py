"""Tasks with steps. ``calls`` has the names of the steps whose functions were called, in this process."""

import asyncio
import os
import threading
import time
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from django.db import transaction

from notifications.api import apause, policy, task
from notifications.contrib.steps import astep, step

calls = []
#: What a task waits for inside a step, and that it has come there.
go_on, entered = threading.Event(), threading.Event()


def pay(name, result=None):
    calls.append(name)
    return {"paid": name} if result is None else result


async def apay(name):
    calls.append(name)
    return {"paid": name}


class Down(Exception):
    pass


@task
@policy(max_attempts=3, retry_on=(Down,))
async def fail_in_the_third(failures):
    first = await astep("first", pay, "first")
    second = await astep("second", apay, "second")
    if calls.count("third") < failures:
        calls.append("third")
        raise Down
    third = await astep("third", apay, "third")
    return [first, second, third]


@task
@policy(max_attempts=3, retry_on=(Down,))
def fail_in_the_second():
    first = step("first", pay, "first", result=(1, 2))
    if calls.count("second") == 0:
        step("second", _fail)
    return [first, step("second", pay, "second")]


def _fail():
    calls.append("second")
    raise Down


@task
@policy(max_attempts=5, retry_on=(Down,))
async def use_new_names():
    """Each attempt uses other names, as of what the time is."""
    for _ in range(5):
        await astep(str(uuid4()), pay, "again")
    raise Down


@task
async def one_step():
    return await astep("first", pay, "first")


@task
@policy(redact=("iban",))
def keep_secrets():
    step("account", pay, "account", result={"iban": "DE02", "bank": "Ada's"})
    step("api token", pay, "token", result="s3cret")


@task
async def side_by_side(count):
    return await asyncio.gather(*(astep(f"step {n}", apay, n) for n in range(count)))


@task
async def twice():
    await astep("same", pay, "same")
    await astep("same", pay, "same")


@task
def in_transaction():
    with transaction.atomic():
        step("first", pay, "first")


@task
async def sync_step_in_async_task():
    step("first", pay, "first")


@task
def async_function():
    step("first", apay, "first")


@task
async def return_anything(value):
    values = {"large": "x" * 2_000_000, "nul": "a\0b", "set": {1}, "nan": float("nan")}
    await astep("first", pay, "first", values[value])


#: What ``return_and_fail`` returns from its step, and what it got, in each attempt.
returned, received = None, []


@task
@policy(max_attempts=2, retry_on=(Down,))
def return_and_fail():
    received.append(step("value", lambda: returned))
    if len(received) == 1:
        raise Down


@task
async def hold_in_step(name="held"):
    return await astep(name, _hold, name)


@task
def hold_in_sync_step(name="held"):
    first = step(name, _hold, name)
    return [first, step("after", pay, "after")]


def _hold(name):
    calls.append(name)
    entered.set()
    go_on.wait(60)
    return name


@task
async def ten_steps():
    return [await astep(f"step {n}", apay, n) for n in range(10)]


@task
async def many_steps(count):
    for number in range(count):
        await astep(f"step {number}", apay, number)


@task
def wait_for_files(folder, names):
    """Make a step of each name, which ends when the folder has a file of this name."""
    for name in names:
        step(name, _wait_for_file, f"{folder}/{name}")


def _wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.01)


async def _sleep_and_fail(seconds):
    await asyncio.sleep(seconds)
    raise Down


@task
async def fail_beside_another():
    """The other call has been stored as one that runs, and goes on after the end."""
    await asyncio.gather(astep("charge", _sleep_and_fail, 1.2), astep("label", asyncio.sleep, 60))


@task
async def fail_beside_a_step():
    label = asyncio.create_task(astep("label", asyncio.sleep, 60))
    await asyncio.wait([label], timeout=1.2)
    raise Down


@task
async def fail_in_a_group():
    """The other call is cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(astep("charge", _sleep_and_fail, 0.2))
        group.create_task(astep("label", asyncio.sleep, 60))


@task
@policy(timeout=1.2)
async def time_out_after_a_failure():
    await fail_and_go_on()
    await astep("label", asyncio.sleep, 60)


@task
async def fail_elsewhere():
    await fail_and_go_on()
    await astep("upload", apay, "upload")
    raise KeyError("total")


async def fail_and_go_on():
    with suppress(Down):
        await astep("thumbnail", _sleep_and_fail, 0)


@task
async def go_on_after_a_timeout():
    """The call has been stored as one that runs when it is cancelled."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1.2):
            await astep("slow", asyncio.sleep, 60)
    await asyncio.to_thread(go_on.wait, 60)


@task
async def pause_beside_a_step():
    """The call is cancelled because the job is suspended."""
    async with asyncio.TaskGroup() as group:
        label = group.create_task(astep("label", asyncio.sleep, 60))
        await asyncio.wait([label], timeout=1.2)
        await apause("nap", timedelta(days=1))


@task
async def go_on_when_cancelled():
    with suppress(asyncio.CancelledError):
        await astep("slow", asyncio.sleep, 60)
