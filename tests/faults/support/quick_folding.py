"""Workers that fold statistics all the time, also those of the current minute, to which others still add."""

from django.apps import AppConfig


class QuickFolding(AppConfig):
    name = "tests.faults.support.quick_folding"
    label = "quick_folding"

    def ready(self):
        from notifications import duties
        from notifications.statistics import folding

        duties.FOLD_INTERVAL_SECONDS = 0.1
        folding.FOLD_AFTER_SECONDS = 0.0
