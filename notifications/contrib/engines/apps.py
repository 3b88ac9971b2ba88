"""Engines: who runs the jobs of a backend.

Without the option ``engine`` in ``TASKS`` that is the built-in worker, which claims jobs from the database. An engine
is another system that only learns the ids of committed jobs. The row stays the truth: a process of the engine claims
it, runs it and records its outcome exactly as the built-in worker does.

interface         what an engine is: ``dispatch(jobs)``, ``revoke(ids)``, ``check()``
senders           the threads that send the ids of this process
dispatch_loop     the loop that dispatches what waited, and what was lost
dispatching       which ids are sent when, and which jobs are taken back
resending         which ids are sent again because they may be lost; ``drained_queues`` knows of some
own_senders       the jobs of this app that call other people's servers, of which a few at a time are dispatched
quarantine        jobs of which one may have ended the process that ran them all
process           ``run(id)``: runs a job in a process of the engine
worker            the worker of such a process; ``dispatched_jobs`` is in the place of its claim loop
group_delay       delays its transactions, so that each covers more jobs
unserved          queued jobs that no process of their engine takes
backend           any other backend of Django's Tasks; ``backend_task`` is the task that such a backend runs
findings, checks  what ``doctor`` and the system checks examine

Celery is in ``contrib/celery/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.contrib.engines import configured_engines, has_backend_engine, label_of, usable_engine
from notifications.extension import Dispatch, Extension, import_later

if TYPE_CHECKING:
    from notifications.models import Job


class EngineDispatch(Dispatch):
    """Dispatches jobs to the engines of their backends."""

    prepare = import_later("senders.prepare")
    send_after_commit = import_later("senders.send_after_commit")
    move_to_engines = import_later("dispatching.move_to_engines")
    find_stalled = import_later("resending.find_stalled")
    find_missing_process = import_later("unserved.find_missing_process")
    unserved_jobs = import_later("unserved.unserved_jobs")
    warn_of_unserved_jobs = import_later("unserved.warn_of_unserved_jobs")
    start_in_server = import_later("dispatch_loop.start")
    round_of_worker = import_later("dispatch_loop.round_of_worker")

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
    findings: ClassVar[Mapping[str, str]] = {"engine": "notifications.contrib.engines.findings.find_engines"}

    stored_times = import_later("findings.list_stored_times")

    def ready(self) -> None:
        from notifications.contrib.engines import checks  # noqa: F401  (the import registers them)

        if has_backend_engine():
            # Loaded before workers of the other backend fork a process for each job, which would load it each time.
            from notifications.contrib.engines import process  # noqa: F401

    def dispatch(self) -> Dispatch:
        return EngineDispatch()

    def after_cancel(self, ended: Sequence[Job], running: Sequence[Job]) -> None:
        from notifications.contrib.engines import senders
        from notifications.jobs.claiming.executors import DISPATCHED_EXECUTORS

        if dispatched := [job for job in ended if job.executor in DISPATCHED_EXECUTORS]:
            senders.revoke(dispatched)
