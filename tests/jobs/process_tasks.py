"""Tasks for tests in another process: they write to a file, fork, or end their worker."""

import asyncio
import json
import os
import threading
from pathlib import Path

from notifications.api import policy, task


@task
@policy(max_attempts=2)
async def exit_at_once(path):
    write.func(path, os.getpid())
    os._exit(3)


@task
@policy(max_attempts=1)
def exit_at_once_sync(path):
    write.func(path, os.getpid())
    os._exit(3)


@task
def write(path, word):
    """Append a line to a file, for a test in another process."""
    with open(path, "a") as file:
        file.write(f"{word}\n")


@task
@policy(max_attempts=3)
async def write_and_wait(path, go):
    """Write the process id to a file, then wait until the file `go` exists."""
    write.func(path, os.getpid())
    while not Path(go).exists():  # noqa: ASYNC110 (a test in another process makes the file)
        await asyncio.sleep(0.01)
    write.func(path, "done")
    return os.getpid()


@task
@policy(max_attempts=3)
def write_and_wait_sync(path, go):
    write.func(path, os.getpid())
    while not Path(go).exists():
        threading.Event().wait(0.01)
    write.func(path, "done")
    return os.getpid()


@task
@policy(max_attempts=2)
async def kill_worker(path):
    write.func(path, os.getpid())
    os.kill(os.getpid(), 9)


@task
def fork_and_end():
    """Fork a process and end it by SIGTERM, as multiprocessing does. Returns its exit code."""
    pid = os.fork()
    if not pid:
        threading.Event().wait(30)
        os._exit(0)
    os.kill(pid, 15)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@task
@policy(max_attempts=5)
async def write_and_pause(path, number):
    write.func(path, number)
    await asyncio.sleep(0.05)


@task
def fork_and_list_threads():
    """Fork a process and return the names of its threads."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, json.dumps([thread.name for thread in threading.enumerate()]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return json.loads(os.read(read, 65536))
