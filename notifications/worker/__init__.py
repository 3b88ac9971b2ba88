"""The built-in worker, one asyncio event loop. ``worker.py`` connects the parts, which do not know one another.

claim_loop -> job_runner -> execution -> record_loop  the way of a job
due_jobs                      scheduled jobs join the queue
running_jobs                  beside the jobs that run
capacity, subtasks            how many jobs may be claimed; the asyncio tasks that jobs start
joining                       ``join()``
lease, watchdog, maintenance  what keeps this worker, and all workers, healthy
writer                        the thread of the worker's transactions
loops, state                  how the loops run, and what they share
forks                         what processes that tasks fork inherit
embedded                      the worker inside a server process
event_loop                    the loop of that one, and of workers of engines
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.context import current_execution as current_execution
    from notifications.context import running_step as running_step
    from notifications.db.signal_queue import SignalQueue as SignalQueue
    from notifications.db.supervised import SupervisedThread as SupervisedThread
    from notifications.db.thread_connections import check_connections as check_connections
    from notifications.db.threads import DaemonExecutor as DaemonExecutor
    from notifications.db.threads import NoThread as NoThread
    from notifications.db.threads import start_thread as start_thread
    from notifications.jobs.transitions.conditional_updates import lock_claims as lock_claims
    from notifications.jobs.transitions.running import DEADLINE_MARGIN_SECONDS as DEADLINE_MARGIN_SECONDS
    from notifications.worker.execution import Execution as Execution
    from notifications.worker.lease import Lease as Lease
    from notifications.worker.loops import wait_for_event as wait_for_event
    from notifications.worker.state import WorkerState as WorkerState
    from notifications.worker.worker import JobWorker as JobWorker
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.context": "current_execution running_step",
            "notifications.db.signal_queue": "SignalQueue",
            "notifications.db.supervised": "SupervisedThread",
            "notifications.db.thread_connections": "check_connections",
            "notifications.db.threads": "DaemonExecutor NoThread start_thread",
            "notifications.jobs.transitions.running": "DEADLINE_MARGIN_SECONDS",
            "notifications.jobs.transitions.conditional_updates": "lock_claims",
            "notifications.worker.execution": "Execution",
            "notifications.worker.lease": "Lease",
            "notifications.worker.loops": "wait_for_event",
            "notifications.worker.state": "WorkerState",
            "notifications.worker.worker": "JobWorker",
        },
    )
