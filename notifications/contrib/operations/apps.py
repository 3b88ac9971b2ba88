"""Operations: what operators of jobs see, and what they do with many at once.

models        statistics of jobs, incidents, alerts, and the permission to view the overview
statistics/   counts jobs and their times in the transaction that ends them, and reads the sums
incidents/    since when jobs of a task fail with one error, until when, and whom that affects
alerts/       what needs an operator, from when it begins until it is over
admin/        the overview and alerts; filters and bulk changes of jobs, filters of notifications
duties        records failures, evaluates alerts, and rolls up statistics
running       running and suspended jobs of each queue
periods       the periods that pages show
additions     what other apps add to the overview and metrics
broadcasts    the users whom an incident affects, as an audience of broadcasts
metrics       the metrics of jobs for Prometheus; views and urls serve them
commands      ``jobs stats``
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, Setting, import_later

#: The limits of alerts. ``alerts/conditions.py`` has the defaults.
ALERT_LIMITS = (
    *("interval", "stalled", "wait", "failure_rate", "min_failures", "max_failures", "no_worker", "question"),
)
#: Those of them that are a number of jobs, and not None.
NUMBERS = ("min_failures", "max_failures")


def _are_alerts(value: dict[str, Any]) -> bool:
    return all(
        key in ALERT_LIMITS
        and (
            (limit is None and key not in NUMBERS)
            or (type(limit) in (int, float) and 0 < limit <= (1 if key == "failure_rate" else 604_800))
        )
        for key, limit in value.items()
    )


class Operations(Extension):
    name = "notifications.contrib.operations"
    label = "notifications_operations"
    verbose_name = _("Operations")
    subcommands: ClassVar[dict[str, str]] = {
        "jobs stats": "notifications.contrib.operations.commands.StatsCommand",
    }
    settings: ClassVar[dict[str, Setting]] = {
        "ALERTS": Setting(
            {},
            is_valid=_are_alerts,
            rule="a dict of limits above 0: interval, stalled, wait, no_worker and question in seconds (at most a "
            "week), failure_rate of at most 1, min_failures, max_failures; None turns any but the last two off, and as "
            "the interval all alerts",
        ),
        "METRICS_TOKEN": Setting(
            "",
            is_valid=lambda value: not value or len(value) >= 16,
            rule="a text of 16 characters or more, or ''",
            is_secret=True,
        ),
    }

    tables: ClassVar[dict[str, str]] = {"notifications_operations.AffectedUser.user_id": "user"}

    def ready(self) -> None:
        # Not at the first call of its hooks, inside of a transaction.
        from notifications.contrib.operations.statistics import recording  # noqa: F401

    on_attempts = import_later("statistics.recording.count_attempts")
    on_ends = import_later("statistics.recording.count_ends")
    last = import_later("statistics.recording.write_counts")
    on_change = import_later("alerts.evaluation.record_lost_workers")
    duties = import_later("duties.make_duties")
    checks = import_later("alerts.texts.make_checks")
