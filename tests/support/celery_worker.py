"""A worker of Celery as a process of its own, on the database of the test."""

import os
import signal
from contextlib import contextmanager, suppress

from django.db import connection

from tests.support.processes import child_pids
from tests.support.site import START_TIMEOUT_SECONDS, Site

#: The module of the app.
APP = "tests.contrib.celery.job_app"


def database_url():
    """Return the DATABASE_URL of the database of the test."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


def two_slots():
    """Return the options of a worker with two child processes, on SQLite, where these are refused, with two threads."""
    return "--pool", "threads" if connection.vendor == "sqlite" else "prefork", "--concurrency", 2


class CeleryWorker:
    """A running worker of the app. Children are ended with their parent. ``options`` are those of ``celery worker``."""

    def __init__(self, folder, broker_url, *options):
        self.site = Site(folder, database_url())
        self.site.use_celery(broker_url)
        self.site.environment |= {"SECRET_KEY": "tests"}
        self.site.notifications = {"LEASE": 4}
        self.command = [
            *("-m", "celery", "-A", APP, "worker", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", *options),
        ]
        self.process = None

    def start(self):
        """Start the worker and wait until it takes tasks."""
        name = f"worker{len(self.site.processes)}-{os.getpid()}-{id(self)}@%h"
        self.process = self.site.start(f"celery-{id(self)}", *self.command, "-n", name)
        self.process.wait_for_line(" ready.", timeout=START_TIMEOUT_SECONDS)
        return self

    def stop(self):
        """Stop as by SIGTERM: after the running tasks."""
        if self.process and self.process.running:
            with self._without_children():
                self.process.stop(timeout=20)
        self.site.close()

    @contextmanager
    def _without_children(self):
        """Kill the child processes after the block, in which the main process ends: they may wait for ever."""
        children = []
        for pid in child_pids(self.process.pid):
            with suppress(ProcessLookupError):
                children.append(os.pidfd_open(pid))
        yield
        for child in children:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)
