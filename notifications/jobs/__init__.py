"""Background jobs on Django's Tasks API: the life of a job, and what is notified of it.

declaring/, backend, limits           tasks and their policies; ``enqueue()``; how many jobs a user may have
turns, limit_lines                    the fair order of those that wait, for a worker or for the limit of a key
claiming/                             which jobs a worker may claim; ``worker/`` runs them
transitions/                          where a job changes its state
outcomes, outcome_texts, tracebacks   how an attempt has ended, and the notification of a finished job
notifying                             ``notify()``, and what is inserted with a notification or an outcome
owed_calls, calling_owed              what extensions owe to these, because hooks fail, and its duty
end_signals                           the signals of finished jobs
batches, tags                         jobs that are enqueued together, or found together
durable_calls                         pauses, and names of steps and waits that are unique in a job
job_context, results, info, job_ends  a job as its task sees it, as Django's result, as a copy, and its end
notification_info                     reads and marks notifications for the public API
announcing                            notifies readers of what is wrong, and of its end
users, reader_languages               who users are, and in which languages they read
group_texts                           what lists and e-mails show of a group of notifications
selection, changing                   the jobs that ids or a filter name, and the verbs that change them
step_list, timeline, listing          what pages, commands and lists show of jobs
arguments, redaction                  arguments and results as people are shown them
viewing                               which parts of jobs staff may view
probe                                 the task by which ``doctor`` tests workers
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.compat import task_backends as task_backends
    from notifications.jobs.declaring.limit_keys import limit_starts as limit_starts
    from notifications.jobs.declaring.own_tasks import first_backend_alias as first_backend_alias
    from notifications.jobs.declaring.own_tasks import first_queue_name as first_queue_name
    from notifications.jobs.declaring.own_tasks import own_task as own_task
    from notifications.jobs.declaring.own_tasks import using_first_backend as using_first_backend
    from notifications.jobs.declaring.policies import Policy as Policy
    from notifications.jobs.declaring.tasks import aliases_with_engines as aliases_with_engines
    from notifications.jobs.declaring.tasks import stores_jobs as stores_jobs
    from notifications.jobs.durable_calls import DurableCall as DurableCall
    from notifications.jobs.durable_calls import validate_duration as validate_duration
    from notifications.jobs.limit_lines import LimitLine as LimitLine
    from notifications.jobs.outcomes import Outcome as Outcome
    from notifications.jobs.outcomes import RetryRequested as RetryRequested
    from notifications.jobs.results import find_project_task as find_project_task
    from notifications.jobs.selection import JobFilter as JobFilter
    from notifications.jobs.transitions.manual import cancel as cancel
    from notifications.jobs.transitions.manual import retry as retry
    from notifications.jobs.viewing import can_view as can_view
    from notifications.jobs.waits import end_stored as end_stored
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.compat": "task_backends",
            "notifications.jobs.limit_lines": "LimitLine",
            "notifications.jobs.declaring.limit_keys": "limit_starts",
            "notifications.jobs.declaring.own_tasks": (
                "first_backend_alias first_queue_name own_task using_first_backend"
            ),
            "notifications.jobs.declaring.policies": "Policy",
            "notifications.jobs.declaring.tasks": "aliases_with_engines stores_jobs",
            "notifications.jobs.durable_calls": "DurableCall validate_duration",
            "notifications.jobs.outcomes": "Outcome RetryRequested",
            "notifications.jobs.results": "find_project_task",
            "notifications.jobs.selection": "JobFilter",
            "notifications.jobs.transitions.manual": "cancel retry",
            "notifications.jobs.viewing": "can_view",
            "notifications.jobs.waits": "end_stored",
        },
    )
