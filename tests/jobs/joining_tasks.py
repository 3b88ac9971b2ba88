"""Tasks that wait for others, for the tests of join; worker processes import them from here too."""

import asyncio
import threading
from datetime import timedelta

from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from notifications.api import ajoin, join, policy, task
from notifications.exceptions import JobCancelled
from tests.jobs import tasks

#: Counted parents, and how many there were each time.
alive, most_alive = [], []
#: Sync parents that wait for the others before they wait for their children.
together = threading.Barrier(1)


@task
async def parent(value):
    """Return what a child returned that is enqueued here and waited for."""
    return await ajoin(await tasks.echo.aenqueue(value), timeout=60)


@task
async def counted_parent(queue):
    """Leaves how many of its kind there were when it began."""
    alive.append(1)
    most_alive.append(len(alive))
    try:
        return await ajoin(await tasks.noop.using(queue_name=queue).aenqueue(), timeout=60)
    finally:
        alive.pop()


@task(takes_context=True)
def parent_until_cancelled(context):
    """Cancelled while it waits: join() ends, and the context says why."""
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
def parents_together(value):
    """All parents begin before the first child is there: each has a thread at that time."""
    together.wait(30)
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
    """Its time is over while it waits; what its thread does then is seen."""
    tasks.held.append("parent")
    try:
        join(tasks.hold.enqueue("child"))
    except BaseException as exc:
        tasks.seen.append(type(exc).__name__)
        raise


@task
@policy(timeout=0.2)
def parent_too_late():
    """Begins to wait when its time is over, for a job that nobody runs."""
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
