"""Bounds and paces of the package by what they mean, so that no test knows in which modules they stand.

    set_bounds(rows=2, polls=0.1)    # the fixture; set_bounds(setattr, …) in a program that a test starts

rows        what is done in parts is done for so many rows at once
searched    lists search so many rows for a page
counted     what is counted for people, and no more
shown       the items of a list or a page
polls       the seconds between two looks of the loops of a worker
duties      the seconds between two runs of a duty
deliveries  the seconds between two looks for deliveries, and before one is tried again
retries     the seconds before something that failed is tried again
beats       the seconds between two signs of life to clients, services and other processes
answers     the seconds that services, and code of the project, have to answer
clients     the seconds that clients have
statements  the seconds that a statement has
busy        the seconds for which a transaction is tried that finds the database busy
checks      the seconds that a check has, of doctor, of a probe, or of the system
idle        the seconds after which a thread or a connection without work ends
joins       the seconds after which the thread ends that waited for jobs
known       the seconds for which a process uses what it has read, or does not repeat a line of its log
delays      the seconds until what has just changed is believed
ticks       the seconds between two ticks of the hub
"""

from importlib import import_module

from django.conf import settings

GROUPS = {
    "rows": """
        contrib.broadcasts.withdrawal.MAX_ROWS_PER_CHUNK
        contrib.operations.incidents.recording.MAX_FAILURES_READ
        contrib.output.reading.MAX_PART_CHUNKS contrib.schedules.runs.MAX_READ_RUNS
        contrib.schedules.ticks.MAX_PREPARED_PER_ROUND contrib.steps.storage.MAX_STORE_BATCH
        db.keyset.MAX_IDS_PER_PAGE db.keyset.ROWS_PER_SLICE jobs.changing.JOBS_PER_CHUNK
        jobs.limits.MAX_JOBS_READ jobs.notifying.MAX_ROWS_PER_TRANSACTION jobs.selection.MAX_IDS_READ
        jobs.transitions.conditional_updates.MAX_ROWS_PER_TRANSACTION
        jobs.transitions.conditional_updates.MAX_ROWS_POSTGRESQL jobs.transitions.waiting.MAX_JOBS_PER_CHECK
        jobs.transitions.waiting.MAX_WAITS_PER_TRANSACTION management.commands.notify.MAX_ROWS_PER_TRANSACTION
        streams.changes.MAX_RANGES_PER_QUERY
        streams.purging.MAX_BELONGINGS_PER_CHUNK streams.purging.MAX_KEYS_PER_CHUNK
        streams.purging.MAX_ROWS_PER_TRANSACTION worker.record_loop.MAX_RECORD_BATCH
    """,
    "searched": """
        admin.filters.MAX_ROWS_READ db.keyset.MAX_ROWS_CHECKED db.keyset.MAX_ROWS_READ
        jobs.claiming.backlog.MAX_COUNTED streams.listing.MAX_ROWS_SEARCHED
    """,
    "counted": """
        admin.live_jobs.MAX_JOBS_PER_STATE admin.paging.MAX_ROWS_COUNTED
        contrib.broadcasts.audiences.MAX_USERS_COUNTED
        contrib.broadcasts.audiences.MAX_USERS_COUNTED_LIVE
        contrib.operations.admin.overview.failures.MAX_FAILED_READ
        contrib.rates.pages.MAX_COUNTED
        contrib.rates.uses.MAX_COUNTED jobs.calling_owed.MAX_COUNTED jobs.claiming.backlog.MAX_COUNTED_PER_QUEUE
        jobs.selection.MAX_JOBS_COUNTED jobs.turns.MAX_COUNTED management.diagnosis.database.MAX_COUNTED_ROWS
        management.diagnosis.database.MAX_POSITIONED_ROWS management.diagnosis.jobs.MAX_JOBS_READ
    """,
    "shown": """
        admin.JobAdmin.list_per_page admin.NotificationAdmin.list_per_page
        jobs.claiming.backlog.MAX_QUEUES
    """,
    "polls": """
        jobs.job_ends.FIRST_POLL_SECONDS jobs.job_ends.MAX_POLL_SECONDS worker.claim_loop.POLL_INTERVAL_SECONDS
        worker.due_jobs.POLL_INTERVAL_SECONDS worker.loops.RETRY_INTERVAL_SECONDS
        worker.maintenance.ROUND_INTERVAL_SECONDS worker.record_loop.REFUSED_INTERVAL_SECONDS
        worker.running_jobs.CANCEL_POLL_INTERVAL_SECONDS worker.running_jobs.CLAIM_CHECK_INTERVAL_SECONDS
    """,
    "duties": """
        contrib.questions.reminders.CHECK_INTERVAL_SECONDS duties.FIRST_PRUNE_DELAY_SECONDS
        duties.PRUNE_INTERVAL_SECONDS jobs.announcing.ROUND_INTERVAL_SECONDS
    """,
    "deliveries": """
        contrib.deliveries.attempts.FIRST_PAUSE_SECONDS contrib.deliveries.attempts.MAX_PAUSE_SECONDS
        contrib.deliveries.sending.INTERVAL_SECONDS contrib.deliveries.sending.ORPHAN_CHECK_INTERVAL_SECONDS
    """,
    "retries": """
        contrib.engines.wakeups.RETRY_SECONDS db.supervised.FIRST_RETRY_SECONDS
        db.unavailable.RETRY_INTERVAL_SECONDS jobs.durable_calls.RETRY_INTERVAL_SECONDS
        jobs.outcomes.MAX_BACKOFF_SECONDS jobs.transitions.queueing.REQUEUE_DELAY_SECONDS
        management.worker_processes.FIRST_RESTART_SECONDS outbound.attempts.INITIAL_DELAY_SECONDS
        realtime.doorbell.RESTART_INTERVAL_SECONDS realtime.fanout.RETRY_SECONDS
    """,
    "beats": """
        contrib.steps.storage.FOLLOW_INTERVAL_SECONDS
        jobs.transitions.batch_completion.PROGRESS_INTERVAL_SECONDS
        realtime.doorbell.channel_layer.SELF_CHECK_SECONDS realtime.doorbell.postgres.PROBE_SECONDS
        realtime.doorbell.sqlite.IDENTITY_CHECK_SECONDS realtime.transports.sse.COMMENT_INTERVAL_SECONDS
    """,
    "answers": """
        contrib.deliveries.emails.SMTP_TIMEOUT_SECONDS contrib.deliveries.pushes.DEADLINE_SECONDS
        contrib.webhooks.sending.DEADLINE_SECONDS db.project_threads.STUCK_SECONDS db.signal_queue.SLOW_SECONDS
        jobs.transitions.notify_functions.MAX_WAIT_SECONDS realtime.auth.sign_outs.ANSWER_TIMEOUT_SECONDS
    """,
    "clients": """
        contrib.output.views.LONG_POLL_SECONDS realtime.servers.request_limits.LINGER_SECONDS
        realtime.transports.sse.DRAIN_TIMEOUT_SECONDS realtime.transports.sse.EventStream.max_response_seconds
        realtime.transports.websocket.CLOSE_TIMEOUT_SECONDS realtime.transports.websocket.HELLO_TIMEOUT_SECONDS
    """,
    "statements": "db.deadlines.ANSWER_SECONDS realtime.doorbell.postgres.PROBE_ANSWER_SECONDS",
    "busy": "db.transactions.BUSY_RETRY_SECONDS",
    "checks": """
        contrib.engines.findings.PING_SECONDS http.health_views.TIMEOUT_SECONDS
        management.diagnosis.database.NUMBERING_SECONDS management.diagnosis.processes.SLOW_ROUND_TRIP_SECONDS
        realtime.doorbell.channel_layer.TIMEOUT_SECONDS realtime.probe.CANCEL_SECONDS
        realtime.probe.TIMEOUT_SECONDS
    """,
    "idle": """
        contrib.engines.worker.IDLE_SECONDS db.threads.IDLE_SECONDS
        realtime.doorbell.channel_layer.IDLE_SECONDS worker.job_runner.EMAIL_IDLE_SECONDS
    """,
    "joins": "jobs.job_ends.IDLE_SECONDS",
    "known": """
        admin.live_jobs.MAX_AGE_SECONDS db.threads.MAX_CONNECTION_SECONDS
        extension.log_throttle.LOG_INTERVAL_SECONDS http.health_views.MAX_AGE_SECONDS
        jobs.announcing.READERS_INTERVAL_SECONDS jobs.limits.CHECK_VALID_SECONDS
        jobs.transitions.queueing.READ_PAUSE_FACTOR jobs.transitions.queueing._next_read_at
        jobs.turns.CLOCK_INTERVAL_SECONDS jobs.turns.LAST_TURN_VALID_SECONDS outbound.connector.CACHE_SECONDS
    """,
    "delays": """
        contrib.operations.alerts.evaluation.CLEAR_SECONDS
        contrib.operations.statistics.roll_up.INTERVAL_SECONDS
        contrib.operations.statistics.roll_up.ROLL_UP_AFTER_SECONDS
    """,
    "ticks": "realtime.pool.TICK_SECONDS",
}


def find_owner(path):
    """Return the module or class in which a name stands."""
    try:
        return import_module(f"notifications.{path}")
    except ModuleNotFoundError:
        path, _, name = path.rpartition(".")
        return getattr(find_owner(path), name)


def set_bounds(setattr, **values):
    """Set all bounds of these groups, of the core and of the apps that are installed, to these values."""
    for group, value in values.items():
        for path in GROUPS[group].split():
            owner, _, name = path.rpartition(".")
            app = ".".join(owner.split(".")[:2])
            if not path.startswith("contrib.") or f"notifications.{app}" in settings.INSTALLED_APPS:
                setattr(find_owner(owner), name, value)
