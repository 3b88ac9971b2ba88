"""``manage.py prune``: the app's command, and the site's reports."""

from datetime import timedelta

from asyncsite.pruning import prune_reports
from notifications.management.commands import prune


class Command(prune.Command):
    help = (
        "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION'], "
        "and reports older than REPORT_RETENTION_DAYS."
    )

    def handle(self, *args, days, **options):
        super().handle(*args, days=days, **options)
        deleted = prune_reports(None if days is None else timedelta(days=days))
        self.stdout.write(f"{deleted} reports deleted.")
