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
    from notifications.jobs.claiming.backlog import queue_depths as queue_depths
    from notifications.jobs.claiming.queues import pause_queue as pause_queue
    from notifications.jobs.claiming.queues import paused_queues as paused_queues
    from notifications.jobs.claiming.sources import read_moment as read_moment
    from notifications.jobs.claiming.waiting_reasons import WaitCounts as WaitCounts
    from notifications.management.diagnosis.checking import Examination as Examination
    from notifications.management.management_command import ManagementCommand as ManagementCommand
    from notifications.paths import admin_list as admin_list
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.jobs.claiming.backlog": "queue_depths",
            "notifications.jobs.claiming.sources": "read_moment",
            "notifications.jobs.claiming.waiting_reasons": "WaitCounts",
            "notifications.jobs.claiming.queues": "pause_queue paused_queues",
            "notifications.management.diagnosis.checking": "Examination",
            "notifications.management.management_command": "ManagementCommand",
            "notifications.paths": "admin_list",
        },
    )
