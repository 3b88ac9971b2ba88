"""``manage.py notifications new_epoch``: begin a new epoch after the database was restored from a backup."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.db import Error

from notifications.management.management_command import ManagementCommand, explain_error
from notifications.streams.positions import begin_epoch


class NewEpochCommand(ManagementCommand):
    help = (
        "Begin a new epoch. Run it after restoring a backup, before the site is started: browsers that have received "
        "changes that the backup lacks then start from a snapshot. On PostgreSQL it is not needed after a failover. "
        "Prints the epoch."
    )
    examples = ("",)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(begin_epoch())
        except Error as exc:
            raise CommandError(f"The epoch was not changed: {explain_error(exc)}") from exc
