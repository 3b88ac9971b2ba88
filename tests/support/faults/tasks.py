"""Tasks that append a line to a file when they start and when they are done."""

import asyncio
import builtins
import json
import os
import signal
import time
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.db import connection, transaction

from notifications import outbound
from notifications.api import apause, policy, progress, task
from notifications.contrib.output import output
from notifications.contrib.questions import aquestion
from notifications.contrib.steps import astep
from tests.support.faults.hostile import misbehave_at

GATES = os.environ.get("FAULT_GATES", "")


@task(takes_context=True)
async def work(context, seconds):
    write_effect(context, "started")
    await asyncio.sleep(seconds)
    write_effect(context, "done")
    return os.getpid()


@task(takes_context=True)
def work_sync(context, seconds):
    write_effect(context, "started")
    time.sleep(seconds)
    write_effect(context, "done")
    return os.getpid()


@task(takes_context=True)
@policy(max_attempts=100)
async def pay_ten(context, url, delays):
    """Make ten paid calls, each a step. Each takes one of the delays in turn, in this attempt."""
    id, attempt = context.task_result.id, context.attempt
    write_effect(context, "started")

    async def pay(step):
        delay = delays[(step + attempt - 1) % len(delays)]
        response = await outbound.post(
            f"{url}/slow/{delay}?job={id}&step={step}&attempt={attempt}", guard=False, deadline=60
        )
        return [step, response.status]

    paid = [await astep(f"pay {step}", pay, step) for step in range(10)]
    write_effect(context, "done")
    return paid


@task
@policy(max_attempts=100)
async def write_numbers(count, seconds):
    """Write as many numbers, each after a time."""
    for number in range(count):
        output(f"{number} ")
        await asyncio.sleep(seconds)


@task
@policy(max_attempts=100)
async def write_blocks(count, chars, seconds):
    """Write as many blocks of text, each after a time."""
    for number in range(count):
        output(f"{number:06} ".ljust(chars - 3, "ä") + "\n \n")
        await asyncio.sleep(seconds)


@task(takes_context=True)
@policy(max_attempts=100)
async def pay_and_pause(context, naps, milliseconds):
    """Make a paid call after each pause. Each is an effect of its own."""
    for number in range(naps):
        await apause(f"nap {number}", timedelta(milliseconds=milliseconds))
        await astep(f"pay {number}", write_effect, context, f"paid-{number}")
    return naps


@task(takes_context=True)
@policy(max_attempts=100)
async def ask_and_pay(context, users):
    """Make a paid call for the answer, which is the name of one of three choices."""
    choices = {name: name for name in ("a", "b", "c")}
    answer = await aquestion("Which?", name="which", choices=choices, to=users)
    await astep("pay", write_effect, context, f"paid-{answer}")
    return answer


@task(takes_context=True)
async def follow_up(context, event):
    """The handler of the ends of jobs."""
    write_effect(context, "started")
    write_effect(context, "done")
    return event["id"]


@task(takes_context=True)
async def wait_for_gate(context):
    """Wait until the gate of this process, or of all, is open; report the pid before and after."""
    write_effect(context, "started")
    report_pid()
    while not is_gate_open():  # noqa: ASYNC110  # The test, in another process, creates the file.
        await asyncio.sleep(0.02)
    report_pid()
    write_effect(context, "done")
    return os.getpid()


@task(takes_context=True)
def wait_for_gate_sync(context):
    """Wait for the gate, then run for 0.1 s longer, so that the worker can notice that it has lost the job."""
    write_effect(context, "started")
    report_pid()
    while not is_gate_open():
        time.sleep(0.02)
    report_pid()
    time.sleep(0.1)
    write_effect(context, "done")
    return os.getpid()


@task(takes_context=True)
def hold_connection(context):
    """Wait for the gate in a transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        write_effect(context, "started")
        while not is_gate_open():
            time.sleep(0.02)
    write_effect(context, "done")


@task(takes_context=True)
async def hold_connection_of_async_task(context):
    await sync_to_async(hold_connection.func)(context)


@task(takes_context=True)
async def end_process(context):
    """End the process at once, like the OOM killer."""
    write_effect(context, "started")
    os._exit(1)


@task(takes_context=True)
def end_process_sync(context):
    """End the process with a segmentation fault, like a faulty extension module."""
    write_effect(context, "started")
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(FOREVER_SECONDS)


@task
async def noop(number=None):
    return number


@task
def noop_sync(number=None):
    return number


@task
async def fail(number):
    raise ValueError(number)


def say_what_came(done):
    return {"body": f"It returned {json.dumps(done.result)}."}


@task(takes_context=True)
@policy(notify=say_what_came, retry_on=(ConnectionError,), max_attempts=2)
async def return_or_raise(context, error):
    """Raise the error of this name in the first attempt, or return "done"."""
    write_effect(context, "started")
    if error and context.attempt == 1:
        raise getattr(builtins, error)("Refused")
    return "done"


@task
@policy(timeout=0.2)
async def time_out(number):
    await asyncio.sleep(FOREVER_SECONDS)


@task
async def wait_to_be_cancelled(number):
    await asyncio.sleep(FOREVER_SECONDS)


@task(takes_context=True)
def wait_to_be_cancelled_sync(context, number):
    while True:
        context.raise_if_cancelled()
        time.sleep(0.01)


def build_notification(done):
    misbehave_at("notify", done.title)
    return {"body": "Well done."}


class HostileError(Exception):
    """An error whose attributes misbehave when the app reads them."""

    def __init__(self, place, way):
        super().__init__()
        self.target = f"{place} {way}"

    @property
    def retry_after(self):
        misbehave_at("retry_after", self.target)

    @property
    def tell_owner(self):
        misbehave_at("tell_owner", self.target)


@task(takes_context=True)
@policy(title="{place} {way}", notify=build_notification, retry_on=(HostileError,), max_attempts=2)
async def misbehave(context, place, way):
    """Make the project's code misbehave at a place. Attempts fail only by the errors that they raise."""
    write_effect(context, "started")
    if place == "tell_owner" or (place == "retry_after" and context.attempt == 1):
        raise HostileError(place, way)
    return place


FOREVER_SECONDS = 600


def report_pid():
    progress(1, 2, str(os.getpid()))


def is_gate_open():
    return any(os.path.exists(os.path.join(GATES, gate)) for gate in ("all", str(os.getpid())))


def write_effect(context, event):
    line = f"{context.task_result.id} {context.attempt} {os.getpid()} {event}\n"
    file = os.open(os.environ["FAULT_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())  # One write, so that lines of several processes do not mix.
    finally:
        os.close(file)
