"""Tasks that wait for jobs, for the tests of join(). Worker processes import them from this module."""

import asyncio
import threading
from datetime import timedelta

from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from notifications.api import ajoin, join, policy, task
from notifications.exceptions import JobCancelled
from tests.jobs import tasks

#: One entry for each counted parent that runs now, and the number of these whenever one starts.
running_parents, running_counts = [], []
#: Where parents wait until each has a thread. Tests set the number of parents.
start_barrier = threading.Barrier(1)


@task
async def parent(value):
    """Enqueue a child, wait for it and return its result."""
    return await ajoin(await tasks.echo.aenqueue(value), timeout=60)


@task
async def counted_parent(queue):
    """Record how many of these parents run, then wait for a child in `queue`."""
    running_parents.append(1)
    running_counts.append(len(running_parents))
    try:
        return await ajoin(await tasks.noop.using(queue_name=queue).aenqueue(), timeout=60)
    finally:
        running_parents.pop()


@task(takes_context=True)
def parent_until_cancelled(context):
    """Wait until cancelled: join() raises JobCancelled, and the context reports the cancellation."""
    try:
        join(tasks.hold.enqueue("child"))
    except JobCancelled:
        tasks.seen.append("parent")
        context.raise_if_cancelled()


@task
def parent_sync(value):
    return join(tasks.echo.enqueue(value), timeout=60)


@task
def parent_sync_of_sync(value):
    return join(tasks.add.enqueue(value, 1), timeout=60)


@task
def parent_after_barrier(value):
    """Wait until all parents have a thread, then enqueue a child and wait for it."""
    start_barrier.wait(30)
    return join(tasks.add.enqueue(value, 1), timeout=60)


@task
def parent_async_to_sync(value):
    return async_to_sync(ajoin)(tasks.add.enqueue(value, 1), timeout=60)


@task
async def parent_of_many(count):
    children = [await tasks.echo.aenqueue(number) for number in range(count)]
    return sum(await asyncio.gather(*(ajoin(child, timeout=60) for child in children)))


@task
async def generations(left):
    return 1 + await ajoin(await generations.aenqueue(left - 1), timeout=60) if left else 0


@task
async def parent_on_database_thread():
    child = await tasks.noop.aenqueue()
    return await sync_to_async(join)(child, timeout=60)


@task(takes_context=True)
async def join_itself(context):
    await ajoin(context.task_result, timeout=60)


@task
@policy(timeout=0.3)
def parent_out_of_time():
    """Time out during join(), and record what join() then raises on the thread."""
    tasks.held.append("parent")
    try:
        join(tasks.hold.enqueue("child"))
    except BaseException as exc:
        tasks.seen.append(type(exc).__name__)
        raise


@task
@policy(timeout=0.2)
def parent_too_late():
    """Call join() after the timeout, for a job in a queue that no worker serves."""
    tasks.gate.wait(30)
    try:
        join(tasks.noop.using(queue_name="nowhere").enqueue())
    except BaseException as exc:
        tasks.seen.append(type(exc).__name__)
        raise


@task
async def await_failing():
    return await ajoin(await tasks.fail.aenqueue(), timeout=60)


@task
def wait_for_later():
    return join(tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue())


@task
def join_failing():
    return join(tasks.fail.enqueue())
