"""Engines: who runs the jobs of a backend.

Without the option ``engine`` in ``TASKS`` that is the built-in worker. An engine is another system, whose processes are
woken by messages. A message says that a queue of a backend has something to do, and names no job: the process claims,
as the built-in worker does.

interface         what an engine is: ``wake(queue, count)``, ``check()``
wakeups           which messages are sent when
process           ``run_waiting(queue)``: runs jobs in a process of the engine
worker            the worker of such a process, which claims jobs for the slots of messages
server            the upkeep in server processes
unserved          queues that no process of their engine takes
backend           any other backend of Django's Tasks; ``backend_task`` is the task that such a backend runs
findings, checks  what ``doctor`` and the system checks examine

Celery is in ``contrib/celery/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

from notifications.contrib.engines import configured_engines, has_backend_engine, label_of, usable_engine
from notifications.extension import Dispatch, Duty, Extension, import_later

if TYPE_CHECKING:
    from notifications.extension import Upkeep


class EngineDispatch(Dispatch):
    """Wakes the processes of engines."""

    wake_after_commit = import_later("wakeups.wake_after_commit")
    wake_for_queue = import_later("wakeups.wake_for_queue")
    find_missing_process = import_later("unserved.find_missing_process")
    taken_queues = import_later("unserved.taken_queues")
    describe_unserved = import_later("unserved.describe_unserved")
    start_in_server = import_later("server.start")

    def require(self, alias: str) -> None:
        usable_engine(alias)

    def label_of(self, alias: str) -> str:
        return label_of(alias)

    def start_advice(self) -> str:
        return " ".join(engine.start_advice() for engine in configured_engines().values())


class Engines(Extension):
    name = "notifications.contrib.engines"
    label = "notifications_engines"
    verbose_name = _("Engines")

    def ready(self) -> None:
        from notifications.contrib.engines import checks  # noqa: F401  (the import registers them)

        if has_backend_engine():
            # Loaded before workers of the other backend fork a process for each job, which would load it each time.
            from notifications.contrib.engines import process  # noqa: F401

    checks = import_later("findings.make_checks")

    def dispatch(self) -> Dispatch:
        return EngineDispatch()

    def duties(self, process: Upkeep) -> list[Duty]:
        from notifications.contrib.engines import wakeups

        return wakeups.list_duties()
