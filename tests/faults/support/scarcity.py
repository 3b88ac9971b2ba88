"""Resources that run out at the n-th call, and are there again once `end()` was called."""

import threading

from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

DatabaseWrapper = type(connection._connections[connection._alias])


class Scarcity:
    """Stands in for a function: from its n-th call on it raises an error, until `end()`.

    ``counts(*args, **kwargs)`` says which calls are counted, and may fail.
    """

    def __init__(self, function, error, *, nth=1, counts=lambda *args, **kwargs: True):
        self.function = function
        self.error = error
        self.nth = nth
        self.counts = counts
        self.calls = self.failures = 0
        self.ended = False
        self._lock = threading.Lock()

    def end(self):
        self.ended = True

    def __call__(self, *args, **kwargs):
        if not self.ended and self.counts(*args, **kwargs):
            with self._lock:
                self.calls += 1
                fails = self.calls >= self.nth
                self.failures += fails
            if fails:
                raise self.error()
        return self.function(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)


def no_threads(monkeypatch, *, nth=1, prefix="notifications"):
    """Let the process have no more threads whose names begin with ``prefix``, from the n-th start on."""
    scarcity = Scarcity(
        threading.Thread.start,
        lambda: RuntimeError("can't start new thread"),
        nth=nth,
        counts=lambda thread: thread.name.startswith(prefix),
    )
    monkeypatch.setattr(threading.Thread, "start", scarcity)
    return scarcity


def failing_statements(monkeypatch, error, *, nth=1):
    """Let statements of the app's threads fail before they are executed, from the n-th on.

    What the test itself asks, on threads without the app's names, is not counted.
    """
    scarcity = Scarcity(lambda: None, error, nth=nth, counts=lambda: is_our_thread())

    def wrapper(execute, sql, params, many, context):
        scarcity()
        return execute(sql, params, many, context)

    connect = BaseDatabaseWrapper.connect

    def connect_with_wrapper(connection):
        connect(connection)
        if wrapper not in connection.execute_wrappers:
            connection.execute_wrappers.append(wrapper)

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", connect_with_wrapper)
    return scarcity


def failing_connections(monkeypatch, error, *, nth=1):
    """Let new connections to the database fail as its driver does, from the n-th on that the app's threads make."""
    scarcity = Scarcity(
        DatabaseWrapper.get_new_connection, error, nth=nth, counts=lambda *args: is_our_thread()
    )
    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", scarcity)
    return scarcity


def is_our_thread():
    return threading.current_thread().name.startswith("notifications")


def full_disk():
    return OperationalError("database or disk is full")


def no_memory():
    return MemoryError()


def no_file():
    return connection.Database.OperationalError("unable to open database file: Too many open files")


def full_pool():
    """What Django's own pool of connections raises when nobody gives one back in time."""
    if connection.vendor != "postgresql":
        return no_file()
    from psycopg_pool import PoolTimeout

    return PoolTimeout("couldn't get a connection after 10.00 sec")
