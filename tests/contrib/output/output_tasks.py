"""Tasks that write output. ``go_on`` is what a task waits for, ``entered`` that it has come there."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta

from django.db import transaction

from notifications.api import apause, policy, task
from notifications.contrib.output import aoutput_from, output
from notifications.contrib.steps import step

go_on, entered = threading.Event(), threading.Event()
#: Whether an iterator was closed.
closed = threading.Event()


class Down(Exception):
    pass


@task
async def write(*texts):
    for text in texts:
        output(text)


@task
def write_repeated(text, times, end=""):
    output(text * times)
    output(end)


@task
def write_lone_surrogate():
    output("a\ud800\udfffb\0c\x1ed")


@task
async def stream_bytes():
    async def generate():
        yield b"\xff"

    await aoutput_from(generate())


class Tokens:
    """An async iterator that is no generator, as those of many clients."""

    def __init__(self, count, text, seconds=0.0):
        self.numbers, self.text, self.seconds = iter(range(count)), text, seconds

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(self.seconds)
        for number in self.numbers:
            return self.text.format(number)
        raise StopAsyncIteration

    async def aclose(self):
        closed.set()


@task
async def stream(count, text="token {} ", seconds=0.0):
    return len(await aoutput_from(Tokens(count, text, seconds)))


@task
async def stream_list():
    await aoutput_from(["a"])


@task
def write_much(megabytes):
    block = "x" * 1024 * 1024
    for _ in range(megabytes):
        output(block)


@task
async def write_from_threads(count, lines):
    """Half of the threads are those of a pool of the task, which get copies of its context."""
    with ThreadPoolExecutor(count // 2) as pool:
        for number in range(0, count, 2):
            pool.submit(copy_context().run, _write_lines, number, lines)
        await asyncio.gather(
            *(asyncio.to_thread(_write_lines, number, lines) for number in range(1, count, 2))
        )


def _write_lines(number, lines):
    for line in range(lines):
        output(f"{number:02} {line:04}\n")


@task
def hold():
    output("before ")
    entered.set()
    go_on.wait(60)
    output("after")


@task
@policy(max_attempts=3, retry_on=(Down,))
def fail_twice(text="text"):
    from notifications.worker import current_execution

    attempt = current_execution().job.attempt
    output(f"{text} {attempt}")
    if attempt < 3:
        raise Down


@task
async def write_and_pause():
    output("first ")
    await apause("nap", timedelta(seconds=0.2))
    output("second")


@task
def write_in_transaction():
    with transaction.atomic():
        output("stays")
        transaction.set_rollback(True)


@task
@policy(timeout=0.3)
def write_until_late():
    output("in time")
    time.sleep(0.8)
    output("late")
    entered.set()


@task
def forge():
    step("name\nFORGED", str, "result\nFORGED")
    raise ValueError("Größe\nFORGED\r\nFORGED\u2028FORGED")
