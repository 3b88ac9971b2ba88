"""A worker of Celery as a process of its own, on the database of the test."""

import os
import signal
from contextlib import contextmanager, suppress

import pytest
from django.db import connection

from tests.support.processes import child_pids
from tests.support.requirements import skip_or_fail
from tests.support.site import START_TIMEOUT_SECONDS, Site


def require_celery():
    """Skip the test if Celery is not installed."""
    try:
        import celery  # noqa: F401
    except ImportError:
        skip_or_fail('Celery is not installed (pip install "celery[redis]").')


def database_url():
    """Return the DATABASE_URL of the database of the test."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


def two_slots():
    """Return the options of a worker with two child processes, on SQLite, where these are refused, with two threads."""
    return "--pool", "threads" if connection.vendor == "sqlite" else "prefork", "--concurrency", 2


def require_prefork():
    """Skip a test of child processes where a worker refuses to start them."""
    if connection.vendor == "sqlite":
        pytest.skip(
            "A worker with the pool prefork refuses to start on SQLite. Run with --database postgres."
        )


class CeleryWorker:
    """A running worker of the app ``tests.contrib.celery.app``. Children are ended with their parent.

    ``options`` are those of ``celery worker``; ``environment`` is added to that of the process.
    """

    def __init__(self, folder, broker_url, *options, environment=None, notifications=None, app=None):
        self.site = Site(folder, database_url())
        self.site.use_celery(broker_url)
        self.site.environment |= {"SECRET_KEY": "tests", **(environment or {})}
        self.site.notifications = {"LEASE": 4, **(notifications or {})}
        self.command = [
            *("-m", "celery", "-A", app or "tests.contrib.celery.app", "worker", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", *options),
        ]
        self.process = None

    def start(self):
        """Start the worker and wait until it takes tasks."""
        name = f"worker{len(self.site.processes)}-{os.getpid()}-{id(self)}@%h"
        self.process = self.site.start(f"celery-{id(self)}", *self.command, "-n", name)
        self.process.wait_for_line(" ready.", timeout=START_TIMEOUT_SECONDS)
        return self

    @property
    def pid(self):
        return self.process.pid

    @property
    def output(self):
        return self.process.output

    def kill(self):
        with self._without_children():
            self.process.kill()

    def stop(self):
        """Stop as by SIGTERM: after the running tasks."""
        if self.process and self.process.running:
            with self._without_children():
                self.process.stop(timeout=20)
        self.site.close()

    def children(self):
        """Return the pids of the child processes that run tasks."""
        return child_pids(self.pid)

    @contextmanager
    def _without_children(self):
        """Kill the child processes after the block, in which the main process ends: they may wait for ever."""
        children = []
        for pid in self.children():
            with suppress(ProcessLookupError):
                children.append(os.pidfd_open(pid))
        yield
        for child in children:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)
