"""``manage.py notifications prune``: delete rows that are past their retention."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import Error

from notifications.conf import settings
from notifications.db.clock import database_now
from notifications.management.management_command import ManagementCommand, explain_error
from notifications.streams import retention


class PruneCommand(ManagementCommand):
    """A subclass that deletes more extends ``prune``, and ``print_prunable`` for ``--dry-run``."""

    help = "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION']."
    examples = ("", "--days 7 --dry-run", "--days 7")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=float, help="retention in days, instead of the setting")
        parser.add_argument(
            "--dry-run", action="store_true", help="print what would be deleted, and delete nothing"
        )

    def handle(self, *args: Any, days: float | None, **options: Any) -> None:
        if days is not None and not 0 <= days < 100_000:
            raise CommandError(f"--days is {days}. It must be 0 or more.")
        kept = None if days is None else timedelta(days=days)
        try:
            self.print_prunable(kept) if options["dry_run"] else self.prune(kept)
        except Error as exc:
            what = "Not all rows were counted" if options["dry_run"] else "Not all rows were deleted"
            raise CommandError(f"{what}: {explain_error(exc)}") from exc

    def prune(self, kept: timedelta | None) -> None:
        """Delete rows that ended longer ago than ``kept``, by default the setting, and print how many."""
        deleted = 0
        try:
            with self.progress("rows deleted") as progress:
                for count in retention.prune_chunks(self.limit(kept)):
                    deleted += count
                    progress.add(count)
        except (Error, KeyboardInterrupt):
            self.print_deleted(deleted, "row")
            raise
        self.print_deleted(deleted, "row")

    def print_prunable(self, kept: timedelta | None) -> None:
        """Print how many rows ``prune`` would delete now."""
        for noun, count in retention.count_prunable(self.limit(kept)):
            self.stdout.write(f"{count} {noun} would be deleted.")

    def limit(self, kept: timedelta | None) -> datetime:
        """Return the time before which rows are past a retention, by default that of the settings."""
        return database_now() - (settings.RETENTION if kept is None else kept)

    def print_deleted(self, count: int, noun: str) -> None:
        self.stdout.write(f"{count} {noun}{'' if count == 1 else 's'} deleted.")
