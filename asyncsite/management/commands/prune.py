"""``manage.py prune``: the command of the app, which deletes old reports too."""

from asyncsite.pruning import prune_reports
from notifications.management.commands import prune


class Command(prune.Command):
    help = (
        "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION'], "
        "and reports older than REPORT_RETENTION_DAYS."
    )

    def prune(self, kept):
        super().prune(kept)
        self.print_deleted(prune_reports(kept), "report")
