"""Tasks that leave something behind: a transaction, a closed connection, a process, a blocked event loop."""

import asyncio
import contextlib
import contextvars
import os
import sys
import time

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from notifications.api import progress, task
from tests.jobs.tasks import gate, seen

left_behind = contextvars.ContextVar("left_behind", default="clean")


@task
async def leave_context():
    before = left_behind.get()
    left_behind.set("dirty")
    return before


@task
def leave_context_sync():
    before = left_behind.get()
    left_behind.set("dirty")
    return before


@task
def leak_transaction():
    transaction.atomic().__enter__()
    get_user_model().objects.create(username="never committed")


@task
async def leak_transaction_async():
    await sync_to_async(leak_transaction.func)()


@task
def leave_autocommit_off():
    transaction.set_autocommit(False)
    get_user_model().objects.create(username="never committed")


@task
def begin_and_forget():
    connection.cursor().execute("BEGIN")
    get_user_model().objects.create(username="never committed")


@task
async def begin_and_forget_async():
    await sync_to_async(begin_and_forget.func)()


@task
def commit_with_autocommit_off():
    transaction.set_autocommit(False)
    get_user_model().objects.create(username="committed")
    transaction.commit()


@task
def leak_and_fail():
    transaction.atomic().__enter__()
    raise ValueError("and a transaction is open")


@task
async def leak_and_go_on():
    """Read after a call that left a transaction open."""
    with contextlib.suppress(transaction.TransactionManagementError):
        await sync_to_async(leak_transaction.func)()
    return await get_user_model().objects.acount()


@task
async def block_the_loop(seconds):
    time.sleep(seconds)  # noqa: ASYNC251
    return "in the end"


@task
async def subtask_blocks_the_loop(seconds):
    await asyncio.gather(asyncio.create_task(block_the_loop.func(seconds)))


@task
def leave_process():
    """Start a process that runs longer than the job."""
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    return os.posix_spawn(sys.executable, program, os.environ)


@task
async def leave_subtask():
    """Start an asyncio task that runs longer than the job."""

    async def child():
        while not gate.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        progress(77)
        seen.append("child")

    seen.append(asyncio.create_task(child()))
    return "done"


@task
def count_users():
    return get_user_model().objects.count()


@task
def break_connection():
    """Close the connection as a restart of the database does."""
    connection.ensure_connection()
    connection.connection.close()


@task
async def count_users_often(times):
    for _ in range(times):
        await get_user_model().objects.acount()


@task
async def count_users_async():
    return await get_user_model().objects.acount()
