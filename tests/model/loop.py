"""An event loop with a fake clock, and a thread pool whose results arrive after a delay on that clock."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connections


class FakeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only by `advance()`."""

    now = 1_000_000.0

    def time(self):
        return self.now

    def settle(self):
        """Run all callbacks that are due, also those that they schedule."""
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            due = self._scheduled and self._scheduled[0]._when <= self.now
            if not self._ready and not due:
                return

    def advance(self, seconds):
        """Advance the clock and run each callback at the time at which it is due."""
        end = self.now + seconds
        self.settle()
        while self._scheduled and self._scheduled[0]._when <= end:
            self.now = max(self.now, self._scheduled[0]._when)
            self.settle()
        self.now = end
        self.settle()


class DelayedThreadPool:
    """Replace ThreadPool: a call is executed immediately, and its result arrives `delay_seconds` later.

    Changes in between are not in the result, as with a slow query in production.
    """

    delay_seconds = 0.0
    loop: FakeLoop
    executor: ThreadPoolExecutor

    def __init__(self, name, size):
        pass

    @classmethod
    def open(cls):
        cls.executor = ThreadPoolExecutor(1)

    @classmethod
    def end(cls):
        cls.executor.submit(connections.close_all).result()
        cls.executor.shutdown()

    def submit(self, function):
        """Execute a call as soon as the loop runs: a ring may come from the executor's only thread."""
        future = Future()

        def complete(call):
            if error := call.exception():
                future.set_exception(error)
            else:
                future.set_result(call.result())

        self.loop.call_soon_threadsafe(lambda: self.run(function).add_done_callback(complete))
        return future

    def run(self, work, *args):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        try:
            result, error = self.executor.submit(work, *args).result(), None
        except Exception as exc:
            result, error = None, exc

        def complete():
            if future.cancelled():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(result)

        loop.call_later(self.delay_seconds, complete)
        return future

    def close(self):
        return []
