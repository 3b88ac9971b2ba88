"""``manage.py notifications``: the command of the app, whose ``prune`` deletes old reports too."""

from asyncsite.pruning import find_old_reports, prune_reports
from notifications.management.commands import notifications


class SitePruneCommand(notifications.Command.subcommands["prune"]):
    help = (
        "Delete notifications archived, and jobs finished, longer ago than NOTIFICATIONS['RETENTION'], "
        "and reports older than REPORT_RETENTION_DAYS."
    )

    def prune(self, kept):
        super().prune(kept)
        self.print_deleted(prune_reports(kept), "report")

    def print_prunable(self, kept):
        super().print_prunable(kept)
        self.stdout.write(f"{len(find_old_reports(kept))} reports would be deleted.")


class Command(notifications.Command):
    subcommands = {**notifications.Command.subcommands, "prune": SitePruneCommand}
