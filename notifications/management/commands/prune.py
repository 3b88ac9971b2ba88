"""``manage.py prune``: delete what is past its retention."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone

from notifications import retention
from notifications.conf import settings


class Command(BaseCommand):
    help = "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION']."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=float, help="another retention, in days")

    def handle(self, *args: Any, days: float | None, **options: Any) -> None:
        if days is not None and not 0 <= days < 100_000:
            raise CommandError(f"--days is {days}. It must be 0 or more.")
        kept = settings.RETENTION if days is None else timedelta(days=days)
        try:
            deleted = retention.prune(timezone.now() - kept)
        except Error as exc:
            raise CommandError(
                f"The database does not take it now ({exc}). Try again; nothing is half done."
            ) from exc
        self.stdout.write(f"{deleted} rows deleted.")
