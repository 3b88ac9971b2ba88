"""Run jobs in a separate process. `make worker` calls this."""

import time

from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from notifications.api import DATABASE_UNAVAILABLE
from notifications.management import ManagementCommand

POLL_INTERVAL_SECONDS = 0.5


class Command(ManagementCommand):
    help = "Wait until the server beside this process has migrated the database, then run jobs."
    examples = ("", "DATABASE_URL=postgres://mysite@127.0.0.1/mysite")

    def handle(self, **options):
        reported = ""
        while reason := find_wait_reason():
            if reason != reported:
                self.stdout.write(reason)
                self.stdout.flush()
                reported = reason
            time.sleep(POLL_INTERVAL_SECONDS)
        call_command("run_jobs", restarts=True)


def find_wait_reason():
    """Return in one line why jobs cannot run yet, or "" if they can."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DATABASE_UNAVAILABLE as error:
        connection.close()
        return f"Waiting for the database: {' '.join(str(error).split())}"
    return "Waiting for `make run` to migrate the database." if plan else ""
