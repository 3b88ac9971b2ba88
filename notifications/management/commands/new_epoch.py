"""``manage.py new_epoch``: begin a new epoch after the database was restored from a backup."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from notifications import streams
from notifications.db.transactions import turn_autocommit_on


class Command(BaseCommand):
    help = (
        "Begin a new epoch. Run it after restoring a backup, before the site is started: browsers that have received "
        "changes that the backup lacks then start from a snapshot. On PostgreSQL it is not needed after a failover. "
        "Prints the epoch."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if self._called_from_command_line:
            turn_autocommit_on()
        try:
            self.stdout.write(streams.begin_epoch())
        except Error as exc:
            raise CommandError(f"The epoch was not changed: {exc}. Try again.") from exc
