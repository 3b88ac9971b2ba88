"""Celery as the engine of jobs: ``"OPTIONS": {"engine": "notifications.jobs.engines.celery"}``.

app            the Celery app that the project has connected
engine         sends the ids of committed jobs to Celery's broker
worker         runs jobs in Celery's worker processes

Celery's own tasks are observed, each execution with a job:

declarations   which tasks are observed, and the receivers of Celery's signals
configured_tasks  compares the settings with the tasks that Celery knows
observe        moves the jobs as the signals say
headers        what the publisher of a task passes to its worker
messages       jobs for the messages of tasks
publishing     which group of Celery's is published in a context
groups         batches for groups and chords
execution      an observed task while it runs
eager          observed tasks that their publisher calls itself
end_notes      how tasks of child processes have ended, for the main process
task_ends      outcomes for what Celery says about the end of a task
recorder       the thread that writes to the database, in groups
main_process   the row of a Celery worker, and what it does for all jobs
reconcile      finds out what became of tasks of which no signal came
seen_workers   which workers live, and when one was lost
broker         what the result backend, the workers and the broker know
connections    connections to the broker that give it up if it does not answer
bounded_calls  time limits for calls of clients that have none
revoke         revokes tasks whose jobs are cancelled
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notifications.jobs.engines.interface import Engine


def create_engine(alias: str, name: str) -> Engine:
    """Return the engine of a backend. Raises ``ImproperlyConfigured`` without Celery."""
    # A project's celery.py imports this package before Django has loaded the models, which the engine needs.
    from notifications.jobs.engines.celery.app import check_installed

    check_installed()
    from notifications.jobs.engines.celery.engine import CeleryEngine

    return CeleryEngine(alias, name)
