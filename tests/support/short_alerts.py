"""A site whose alerts are over sooner than in production."""

from django.apps import AppConfig


class ShortAlerts(AppConfig):
    name = "tests.support.short_alerts"
    label = "short_alerts"

    def ready(self):
        from notifications.contrib.operations.alerts import conditions, evaluation

        conditions.WINDOW_SECONDS = 5.0
        evaluation.CLEAR_SECONDS = 1.0
