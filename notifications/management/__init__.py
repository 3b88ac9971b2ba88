"""The commands, and what they share.

commands/           ``run_jobs``, ``notify``, and ``notifications`` with its subcommands
subcommands/        those of ``manage.py notifications``
diagnosis/          the checks of its subcommand ``doctor``
management_command  the base class of all: errors, exit codes, subcommands of extensions
worker_processes    ``run_jobs --processes``
output              what commands print
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.db.clock import estimated_database_now as estimated_database_now
    from notifications.jobs.changing import change_jobs as change_jobs
    from notifications.jobs.changing import conditions_until as conditions_until
    from notifications.jobs.changing import count_jobs as count_jobs
    from notifications.jobs.claiming.backlog import LargeShare as LargeShare
    from notifications.jobs.claiming.backlog import QueueDepth as QueueDepth
    from notifications.jobs.claiming.backlog import claiming_workers as claiming_workers
    from notifications.jobs.claiming.backlog import queue_depths as queue_depths
    from notifications.jobs.claiming.backlog import read_large_shares as read_large_shares
    from notifications.jobs.claiming.backlog import read_moment as read_moment
    from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS as MIN_WAIT_SECONDS
    from notifications.jobs.claiming.queues import pause_queue as pause_queue
    from notifications.jobs.claiming.queues import paused_queues as paused_queues
    from notifications.jobs.claiming.queues import resume_queue as resume_queue
    from notifications.management.diagnosis.checking import register as register
    from notifications.management.management_command import ManagementCommand as ManagementCommand
    from notifications.management.management_command import common_options as common_options
    from notifications.management.output import ProgressLine as ProgressLine
    from notifications.management.subcommands.job_verbs import JobVerb as JobVerb
    from notifications.management.subcommands.job_verbs import job_id as job_id
    from notifications.management.subcommands.job_verbs import no_such_job as no_such_job
    from notifications.management.subcommands.job_verbs import user_key_of as user_key_of
    from notifications.management.subcommands.prune import PruneCommand as PruneCommand
    from notifications.paths import admin_list as admin_list
    from notifications.worker.held_outcomes import read_failing_hooks as read_failing_hooks
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.db.clock": "estimated_database_now",
            "notifications.jobs.changing": "change_jobs conditions_until count_jobs",
            "notifications.jobs.claiming.backlog": (
                "LargeShare QueueDepth claiming_workers queue_depths read_large_shares read_moment"
            ),
            "notifications.jobs.claiming.candidates": "MIN_WAIT_SECONDS",
            "notifications.jobs.claiming.queues": "pause_queue paused_queues resume_queue",
            "notifications.management.diagnosis.checking": "register",
            "notifications.management.management_command": "ManagementCommand common_options",
            "notifications.management.output": "ProgressLine",
            "notifications.management.subcommands.job_verbs": "JobVerb job_id no_such_job user_key_of",
            "notifications.management.subcommands.prune": "PruneCommand",
            "notifications.paths": "admin_list",
            "notifications.worker.held_outcomes": "read_failing_hooks",
        },
    )
