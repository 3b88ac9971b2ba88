"""Resources that run out at the n-th call, until `end()` is called."""

import threading

from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

DatabaseWrapper = type(connection._connections[connection._alias])


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


def fail_statements(monkeypatch, error, *, nth=1):
    """Let statements of the app's threads fail before they are executed, from the n-th on.

    Statements of the test itself, on threads with other names, are not counted.
    """
    scarcity = Scarcity(lambda: None, error, nth=nth, counts=lambda: is_app_thread())

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


def fail_connections(monkeypatch, error, *, nth=1):
    """Let new database connections of the app's threads fail with the driver's error, from the n-th on."""
    scarcity = Scarcity(
        DatabaseWrapper.get_new_connection, error, nth=nth, counts=lambda *args: is_app_thread()
    )
    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", scarcity)
    return scarcity


def is_app_thread():
    return threading.current_thread().name.startswith("notifications")


def full_disk_error():
    return OperationalError("database or disk is full")


def memory_error():
    return MemoryError()


def no_file_error():
    return connection.Database.OperationalError("unable to open database file: Too many open files")


def full_pool_error():
    """Return the error of Django's connection pool when no connection is returned in time."""
    if connection.vendor != "postgresql":
        return no_file_error()
    from psycopg_pool import PoolTimeout

    return PoolTimeout("couldn't get a connection after 10.00 sec")
