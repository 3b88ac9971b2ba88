"""Tasks of the contract of engines, beside those of tests/jobs/tasks.py."""

import asyncio
import os
import signal
import time
from datetime import timedelta

from notifications.api import ajoin, apause, join, pause, policy, task
from notifications.contrib.output import output
from notifications.contrib.questions import aquestion
from notifications.contrib.steps import astep, step
from notifications.worker import record_loop
from notifications.worker.claim_loop import ClaimLoop


@task
@policy(concurrency_key="one")
async def one_at_a_time():
    await asyncio.sleep(0.2)


@task
@policy(max_attempts=1)
async def pause_between(seconds=0.3):
    """Return the processes before and after a pause."""
    first = await astep("first", os.getpid)
    await apause("nap", timedelta(seconds=seconds))
    return [first, os.getpid()]


@task
@policy(max_attempts=1)
def pause_between_sync():
    first = step("first", os.getpid)
    pause("nap", timedelta(seconds=0.3))
    return [first, os.getpid()]


@task
@policy(max_attempts=1)
async def ask():
    """Return the answer of the owner, and whether the step before was executed once."""
    first = await astep("first", os.getpid)
    answer = await aquestion("Ship?", name="ask", choices={"yes": "Ship", "no": "Keep"})
    return [answer, first == await astep("again", lambda: first)]


@task
@policy(max_attempts=1)
async def write():
    """Write in two attempts of one execution: before and after a pause."""
    output("Before. ")
    await apause("nap", timedelta(seconds=0.3))
    output("After.")


@task
async def child(value):
    await asyncio.sleep(0.05)
    return value


@task
async def parent(value):
    """Return what a child returns."""
    return await ajoin(await child.aenqueue(value), timeout=60)


@task
def parent_sync(value):
    return join(child.enqueue(value), timeout=60)


@task
def enqueue_child():
    """Return the id of a job that this enqueues as its last act."""
    return child.enqueue(7).id


@task
@policy(max_attempts=3)
async def end_process():
    """End the process in each attempt, once the jobs that are claimed with it run too."""
    await asyncio.sleep(0.2)
    os._exit(1)


@task
@policy(max_attempts=3)
async def wait_beside():
    await asyncio.sleep(0.8)


@task
@policy(max_attempts=3)
def wait_beside_sync():
    time.sleep(0.8)


@task
@policy(max_attempts=5)
def kill_in_claim(path):
    """Have this process end when it has claimed more jobs, before they begin, and enqueue some."""
    if not os.path.exists(path):
        claim = ClaimLoop._claim_jobs

        def claim_and_end(self, *args, **options):
            if jobs := claim(self, *args, **options):
                kill_once(path)
            return jobs

        ClaimLoop._claim_jobs = claim_and_end
    return [child.enqueue(7).id for _ in range(3)]


@task
@policy(max_attempts=5)
def kill_in_end(path):
    """Have this process end when this job is done and its outcome is to be recorded."""
    finish = record_loop.finish_jobs

    def end_or_finish(*args, **kwargs):
        kill_once(path)
        return finish(*args, **kwargs)

    record_loop.finish_jobs = end_or_finish


@task
@policy(max_attempts=3)
def kill_process_once(path):
    """End the process that runs the first attempt, as the kernel does without memory."""
    kill_once(path)
    return "survived"


def kill_once(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
