"""Alerts with short limits, evaluated by hand."""

import pytest

from notifications.contrib.operations.models import Alert
from notifications.models import Notification
from tests.support.duties import run_duty

#: All alerts are off.
SHORT = dict.fromkeys(("stalled", "wait", "failure_rate", "no_worker", "question"))


@pytest.fixture
def operator(make_user):
    """Return a user who receives alerts."""
    return make_user("operator", is_superuser=True)


class Alerts:
    """Sets limits and evaluates; reads the rows of alerts, and what the operator was notified of."""

    def __init__(self, settings, set_bounds):
        self.settings, self.set_bounds = settings, set_bounds

    def limit(self, **limits):
        self.settings.NOTIFICATIONS = {**self.settings.NOTIFICATIONS, "ALERTS": {**SHORT, **limits}}

    def evaluate(self):
        """Evaluate and announce once, and return kind and subject of the open alerts.

        An alert is over as soon as its condition is.
        """
        self.set_bounds(delays=0)
        run_duty("record failures")
        run_duty("evaluate alerts")
        run_duty("announce problems")
        return self.open()

    def open(self):
        return sorted(Alert.objects.filter(closed_at=None).values_list("kind", "subject"))

    def notified(self, user):
        """Return the titles of a user's notifications about alerts, the oldest first."""
        rows = Notification.objects.filter(user=user, category="alert")
        return list(rows.order_by("id").values_list("title", flat=True))


@pytest.fixture
def alerts(settings, transactional_db, operator, set_bounds):
    alerts = Alerts(settings, set_bounds)
    alerts.limit()
    return alerts
