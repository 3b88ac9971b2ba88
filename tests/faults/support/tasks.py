"""Tasks that write down what they do, in a file to which lines are only ever added."""

import asyncio
import os
import signal
import time

from notifications.api import policy, progress, task
from tests.faults.support.hostile import misbehave_at

GATES = os.environ.get("FAULT_GATES", "")


@task(takes_context=True)
async def work(context, seconds):
    note(context, "began")
    await asyncio.sleep(seconds)
    note(context, "done")
    return os.getpid()


@task(takes_context=True)
def work_sync(context, seconds):
    note(context, "began")
    time.sleep(seconds)
    note(context, "done")
    return os.getpid()


@task(takes_context=True)
@policy(notify=False)
async def follow_up(context, notification):
    note(context, "began")
    note(context, "done")
    return notification


@task(takes_context=True)
async def hold(context):
    """Go on when the gate of this process, or of all, is opened; say at both ends who this is."""
    note(context, "began")
    say_who()
    while not is_open():  # noqa: ASYNC110 (a test in another process makes the file)
        await asyncio.sleep(0.02)
    say_who()
    note(context, "done")
    return os.getpid()


@task(takes_context=True)
def hold_sync(context):
    """Like `hold`, and not done at once: it is there still when its worker looks which jobs it has lost."""
    note(context, "began")
    say_who()
    while not is_open():
        time.sleep(0.02)
    say_who()
    time.sleep(0.1)
    note(context, "done")
    return os.getpid()


@task(takes_context=True)
async def end_process(context):
    """End the process at once, as the OOM killer does."""
    note(context, "began")
    os._exit(1)


@task(takes_context=True)
def end_process_sync(context):
    """End the process by a segmentation fault, as an extension module does."""
    note(context, "began")
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(NEVER)


@task
async def noop(number=None):
    return number


@task
async def fail(number):
    raise ValueError(number)


@task
@policy(timeout=0.2)
async def time_out(number):
    await asyncio.sleep(NEVER)


@task
async def wait_to_be_cancelled(number):
    await asyncio.sleep(NEVER)


@task(takes_context=True)
def wait_to_be_cancelled_sync(context, number):
    while True:
        context.raise_if_cancelled()
        time.sleep(0.01)


def choose_words(done):
    misbehave_at("notify", done.title)
    return {"body": "Well done."}


class HostileError(Exception):
    """Misbehaves when it is asked how long to pause, or what its owner is told."""

    def __init__(self, place, way):
        super().__init__()
        self.words = f"{place} {way}"

    @property
    def retry_after(self):
        misbehave_at("retry_after", self.words)

    @property
    def tell_owner(self):
        misbehave_at("tell_owner", self.words)


@task(takes_context=True)
@policy(title="{place} {way}", notify=choose_words, retry_on=(HostileError,), max_attempts=2)
async def misbehave(context, place, way):
    """Have the host's code misbehave at a place; the attempts that fail do so because of what they raise."""
    note(context, "began")
    if place == "tell_owner" or (place == "retry_after" and context.attempt == 1):
        raise HostileError(place, way)
    return place


NEVER = 600


def say_who():
    progress(1, 2, str(os.getpid()))


def is_open():
    return any(os.path.exists(os.path.join(GATES, gate)) for gate in ("all", str(os.getpid())))


def note(context, word):
    line = f"{context.task_result.id} {context.attempt} {os.getpid()} {word}\n"
    file = os.open(os.environ["FAULT_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())  # one write: lines of several processes do not mix
    finally:
        os.close(file)
