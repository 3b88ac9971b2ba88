"""Run jobs in a process of their own. `make worker` calls this."""

import time

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from notifications.api import DATABASE_UNAVAILABLE


class Command(BaseCommand):
    help = "Wait until the server beside this process has prepared the database, then run jobs."

    def handle(self, **options):
        said = ""
        while reason := reason_to_wait():
            if reason != said:
                self.stdout.write(reason)
                self.stdout.flush()
                said = reason
            time.sleep(0.5)
        call_command("run_jobs")


def reason_to_wait():
    """Say in one line why jobs cannot be run yet; "" when they can."""
    try:
        executor = MigrationExecutor(connection)
        unprepared = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DATABASE_UNAVAILABLE as error:
        connection.close()
        return f"Waiting for the database: {' '.join(str(error).split())}"
    return "Waiting for `make run` to prepare the database." if unprepared else ""
