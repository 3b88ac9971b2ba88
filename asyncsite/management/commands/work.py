"""Run jobs in a process of their own. `make worker` calls this."""

import time

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor


class Command(BaseCommand):
    help = "Wait until the server beside this process has prepared the database, then run jobs."

    def handle(self, **options):
        if not is_migrated():
            self.stdout.write("Waiting for `make run` to prepare the database.")
            self.stdout.flush()
        while not is_migrated():
            time.sleep(0.5)
        call_command("run_jobs")


def is_migrated():
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
