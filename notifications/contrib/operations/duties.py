"""The duties of operations: failures are recorded, alerts evaluated, and statistics rolled up."""

from __future__ import annotations

import random
from itertools import chain

from django.core.exceptions import ImproperlyConfigured

from notifications.conf import settings
from notifications.contrib.operations.alerts import evaluation, failing
from notifications.contrib.operations.alerts.conditions import Limits, read_limits
from notifications.contrib.operations.incidents import recording
from notifications.contrib.operations.statistics import roll_up
from notifications.db import database_now
from notifications.extension import Duty, Subjects, Upkeep, Where

#: Seconds from the start of a process to its first evaluation of alerts and roll-up, at most. A process that lives for
#: one job would begin what others have time for.
MAX_FIRST_DELAY_SECONDS = 15.0
#: Seconds between two recordings of failures.
RECORDING_INTERVAL_SECONDS = 15.0


def make_duties(process: Upkeep) -> list[Duty]:
    """See ``Extension.duties()``."""
    failures = Duty("record failures", RECORDING_INTERVAL_SECONDS, record_failures, Where.EVERYWHERE)
    alerts = Duty(
        "evaluate alerts", _alert_interval, lambda: evaluation.evaluate(alerts.previous_run), Where.EVERYWHERE
    )
    statistics = Duty(
        "roll up statistics",
        roll_up.INTERVAL_SECONDS,
        roll_up.roll_up,
        subjects=Subjects(lambda: chain(roll_up.find_rows(), roll_up.find_old_rows()), roll_up.max_rows()),
    )
    for duty in (failures, alerts, statistics):
        duty.due_at += min(duty.interval or 0.0, MAX_FIRST_DELAY_SECONDS) * random.uniform(0.5, 1)
    return [failures, alerts, statistics]


def record_failures() -> None:
    """Record the incidents of the jobs that have failed, and which of them are alerts, and delete old ones."""
    now = database_now()
    recording.record_failures(now)
    failing.mark_alerts(now)
    recording.delete_old_incidents(now - settings.RETENTION)


def _alert_interval() -> float | None:
    try:
        return read_limits().interval
    except ImproperlyConfigured:
        return Limits().interval  # the evaluation raises it too, and that is logged
