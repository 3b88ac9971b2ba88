"""An event loop whose clock moves only when it is told, and threads that answer after a time on that clock."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from django.db import connections


class FakeLoop(asyncio.SelectorEventLoop):
    """`settle()` runs what can run now; `advance(seconds)` moves on, and runs what falls due on the way."""

    now = 1_000_000.0

    def time(self):
        return self.now

    def settle(self):
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            due = self._scheduled and self._scheduled[0]._when <= self.now
            if not self._ready and not due:
                return

    def advance(self, seconds):
        end = self.now + seconds
        self.settle()
        while self._scheduled and self._scheduled[0]._when <= end:
            self.now = max(self.now, self._scheduled[0]._when)
            self.settle()
        self.now = end
        self.settle()


class Answers:
    """Instead of a ThreadPool: the work is done at once, and its answer comes `delay` seconds later.

    What changes in between is what a look under way does not see.
    """

    delay = 0.0
    thread: ThreadPoolExecutor

    def __init__(self, name, size):
        pass

    @classmethod
    def open(cls):
        cls.thread = ThreadPoolExecutor(1)

    @classmethod
    def end(cls):
        cls.thread.submit(connections.close_all).result()
        cls.thread.shutdown()

    def run(self, work, *args):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        try:
            answer, error = self.thread.submit(work, *args).result(), None
        except Exception as exc:
            answer, error = None, exc

        def come():
            if future.cancelled():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(answer)

        loop.call_later(self.delay, come)
        return future

    def close(self):
        return []
