"""``manage.py prune``: delete what is past its retention."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from notifications import times
from notifications.conf import settings
from notifications.db.transactions import turn_autocommit_on
from notifications.streams import retention


class Command(BaseCommand):
    help = "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION']."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=float, help="another retention, in days")

    def handle(self, *args: Any, days: float | None, **options: Any) -> None:
        if self._called_from_command_line:
            turn_autocommit_on()
        if days is not None and not 0 <= days < 100_000:
            raise CommandError(f"--days is {days}. It must be 0 or more.")
        kept = settings.RETENTION if days is None else timedelta(days=days)
        try:
            deleted = retention.prune(times.now() - kept)
        except Error as exc:
            raise CommandError(
                f"The database does not take it now ({exc}). Try again; nothing is half done."
            ) from exc
        self.stdout.write(f"{deleted} rows deleted.")
