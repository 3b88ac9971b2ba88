"""The event loop on which workers of a process run one after another."""

import asyncio
import errno

import pytest

from notifications.worker import DaemonExecutor
from notifications.worker.event_loop import ProcessLoop
from tests.support.waiting import wait_until


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


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, SystemExit, OSError])
def test_the_loop_goes_on_after_any_error(error, caplog):
    """Nothing would start it again: the server would run no job until it is restarted."""
    process_loop = ProcessLoop()
    selector = process_loop.start()._selector
    select, failed = selector.select, []

    def fail_once(timeout):
        if not failed:
            failed.append(True)
            raise error
        return select(timeout)

    selector.select = fail_once
    process_loop.call(lambda: None)
    wait_until(lambda: "An error left the event loop of jobs" in caplog.text, what="the log")
    assert failed and process_loop.submit(answer).result(timeout=10) == 42
    process_loop.stop(10)
