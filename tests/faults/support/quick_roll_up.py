"""Workers that roll up statistics all the time, also those of the current minute, to which others still add."""

from django.apps import AppConfig


class QuickRollUp(AppConfig):
    name = "tests.faults.support.quick_roll_up"
    label = "quick_roll_up"

    def ready(self):
        from notifications.contrib.operations.statistics import roll_up

        roll_up.INTERVAL_SECONDS = 0.1
        roll_up.ROLL_UP_AFTER_SECONDS = 0.0
