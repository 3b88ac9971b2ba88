"""Resources that run out at the n-th call, until `end()` is called."""

import threading


class Scarcity:
    """Replace a function by one that raises an error from its n-th call until `end()`.

    ``counts(*args, **kwargs)`` returns whether a call is counted and may fail.
    """

    def __init__(self, function, error, *, nth=1, counts=lambda *args, **kwargs: True):
        self.function = function
        self.error = error
        self.nth = nth
        self.counts = counts
        self.calls = self.failures = 0
        self.has_ended = False
        self._lock = threading.Lock()

    def end(self):
        self.has_ended = True

    def __call__(self, *args, **kwargs):
        if not self.has_ended and self.counts(*args, **kwargs):
            with self._lock:
                self.calls += 1
                fails = self.calls >= self.nth
                self.failures += fails
            if fails:
                raise self.error()
        return self.function(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)


def fail_thread_starts(monkeypatch, *, nth=1, prefix="notifications"):
    """Let threads whose names begin with ``prefix`` fail to start, from the n-th start on."""
    scarcity = Scarcity(
        threading.Thread.start,
        lambda: RuntimeError("can't start new thread"),
        nth=nth,
        counts=lambda thread: thread.name.startswith(prefix),
    )
    monkeypatch.setattr(threading.Thread, "start", scarcity)
    return scarcity
