"""``manage.py notifications prune``: delete rows that are past their retention."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import Error

from notifications import times
from notifications.conf import settings
from notifications.management.management_command import ManagementCommand
from notifications.streams import retention


class PruneCommand(ManagementCommand):
    help = "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION']."
    examples = ("", "--days 7")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=float, help="retention in days, instead of the setting")

    def handle(self, *args: Any, days: float | None, **options: Any) -> None:
        if days is not None and not 0 <= days < 100_000:
            raise CommandError(f"--days is {days}. It must be 0 or more.")
        try:
            self.prune(None if days is None else timedelta(days=days))
        except Error as exc:
            raise CommandError(f"Not all rows were deleted: {exc}. Try again.") from exc

    def prune(self, kept: timedelta | None) -> None:
        """Delete rows that ended longer ago than ``kept``, by default the setting, and print how many."""
        deleted = retention.prune(times.now() - (settings.RETENTION if kept is None else kept))
        self.print_deleted(deleted, "row")

    def print_deleted(self, count: int, noun: str) -> None:
        self.stdout.write(f"{count} {noun}{'' if count == 1 else 's'} deleted.")
