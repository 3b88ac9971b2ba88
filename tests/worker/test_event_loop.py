"""The event loop on which workers of a process run one after another."""

import asyncio
import errno

import pytest

from notifications.worker import DaemonExecutor
from notifications.worker.event_loop import ProcessLoop


async def answer():
    return 42


def test_the_caller_gets_the_error_of_a_loop_that_cannot_be_made(monkeypatch):
    """Without a descriptor left, a server or a process of an engine would wait for it for ever."""

    def refuse():
        raise OSError(errno.EMFILE, "Too many open files")

    process_loop = ProcessLoop()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", refuse)
        started = DaemonExecutor(1, "start").submit(process_loop.start)
        with pytest.raises(OSError, match="Too many open files"):
            started.result(timeout=10)
    assert process_loop.submit(answer).result(timeout=10) == 42
    process_loop.stop(10)
