"""Tasks with steps. ``calls`` has the names of the steps whose functions were called, in this process."""

import asyncio
import os
import threading
import time

from notifications.api import policy, task
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
def fail_in_the_second():
    first = step("first", pay, "first", result=(1, 2))
    if calls.count("second") == 0:
        step("second", _fail)
    return [first, step("second", pay, "second")]


def _fail():
    calls.append("second")
    raise Down


@task
async def side_by_side(count):
    return await asyncio.gather(*(astep(f"step {n}", apay, n) for n in range(count)))


#: What ``return_and_fail`` returns from its step, and what it got, in each attempt.
returned, received = None, []


@task
@policy(max_attempts=2, retry_on=(Down,))
def return_and_fail():
    received.append(step("value", lambda: returned))
    if len(received) == 1:
        raise Down


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
def wait_for_files(folder, names):
    """Make a step of each name, which ends when the folder has a file of this name."""
    for name in names:
        step(name, _wait_for_file, f"{folder}/{name}")


def _wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.01)
