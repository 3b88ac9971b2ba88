"""Tasks that raise what no task should, or return what cannot be stored."""

import asyncio
import sys
from collections import UserDict
from concurrent import futures
from contextlib import nullcontext, suppress
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, transaction

from notifications.api import policy, task
from notifications.models import Epoch
from tests.jobs.tasks import BrokenDict, seen


@task
def insert_twice(way):
    """Insert two rows with one key. The error is raised, ignored, or that of a transaction of the task."""
    Epoch.objects.create(id=7, value=uuid4())
    if way == "in a transaction":
        with transaction.atomic():
            Epoch.objects.create(id=7, value=uuid4())
    with suppress(IntegrityError) if way == "ignored" else nullcontext():
        if way == "SQL":
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO notifications_epoch SELECT * FROM notifications_epoch")
        Epoch.objects.create(id=7, value=uuid4())


@task
def insert_and_fail():
    Epoch.objects.create(id=7, value=uuid4())
    raise ValueError


@task
async def insert_twice_on_the_loop():
    await sync_to_async(insert_twice.func)("raised")


@task
async def system_exit():
    sys.exit("enough")


@task
def system_exit_sync():
    sys.exit("enough")


@task
async def keyboard_interrupt():
    raise KeyboardInterrupt


@task
def keyboard_interrupt_sync():
    raise KeyboardInterrupt


@task
def stop_iteration_sync():
    return next(iter(()))


@task
async def stop_iteration_in_thread():
    await sync_to_async(next)(iter(()))


@task
def cancelled_future_sync():
    raise futures.CancelledError


@task
async def cancel_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


@task
async def cancelled_error():
    raise asyncio.CancelledError


@task
async def base_exception():
    raise BaseException("the last resort")


async def leave(how):
    raise how


@task
async def subtask_exits():
    """A subtask calls sys.exit(), which would end the event loop."""
    await asyncio.gather(asyncio.create_task(leave(SystemExit(3))))


@task
async def subtask_exits_alone():
    seen.append(asyncio.create_task(leave(KeyboardInterrupt())))
    await asyncio.sleep(0.05)
    return "done"


class BadText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@task
async def fail_with_bad_text():
    raise BadText


class Hostile(Exception):
    """Each attribute that the worker reads raises another exception."""

    @property
    def retry_after(self):
        raise KeyboardInterrupt

    @property
    def tell_owner(self):
        raise asyncio.CancelledError

    def __str__(self):
        raise GeneratorExit


class HostileWords(Exception):
    tell_owner = True

    def __str__(self):
        raise BaseException("no text")


@task(takes_context=True)
@policy(retry_on=(Hostile,), max_attempts=2)
async def hostile_error(context, attempts=1):
    if context.attempt <= attempts:
        raise Hostile
    return "at last"


@task
async def fail_with_hostile_text():
    raise HostileWords


@task
async def return_broken_dict():
    return BrokenDict(a=1)


@task
async def return_recursive_list():
    value = []
    value.append(value)
    return value


@task
async def not_json(kind):
    return {
        "nan": float("nan"),
        "infinity": float("inf"),
        "nul": "a\0b",
        "nul in key": {"a\0b": 1},
        "surrogate": "\ud800",
        "set": {1},
        "object": object(),
        "large": "x" * (1024 * 1024),
        "huge number": 10**5000,
    }[kind]


@task
async def almost_json(kind):
    return {"bytes": b"text", "mapping": UserDict(a=(1, 2)), "sequence": range(2)}[kind]
