"""Evaluate alerts. Each server process and each worker calls this; one of them at a time does it."""

from __future__ import annotations

from datetime import datetime, timedelta

from notifications import times
from notifications.conf import settings
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.transitions.guards import database_now
from notifications.models import AlertState
from notifications.operations.alerts import conditions, episodes
from notifications.operations.alerts.limits import read_limits

#: Seconds between two looks whether it is time to evaluate.
CHECK_INTERVAL_SECONDS = 5.0


def evaluate_if_due() -> bool:
    """Evaluate the alerts if no process has done so within the interval of the settings. Return whether this did.

    Raises ``django.db.Error``, and ``ImproperlyConfigured`` for a wrong limit.
    """
    limits = read_limits()
    if limits.interval is None:
        return False
    now = database_now()
    state = _take_turn(now, limits.interval)
    if state is None:
        return False
    found = conditions.find_conditions(now, limits, state)
    episodes.record_conditions(found, now, clear_seconds=limits.clear)
    episodes.delete_old_alerts(times.now() - settings.RETENTION)
    return True


def _take_turn(now: datetime, interval: float) -> AlertState | None:
    """Return the state if this process evaluates now, with when a live worker was last seen."""
    rows = AlertState.objects.using(database())
    state = rows.filter(id=1).first()
    if state is None:
        row = AlertState(evaluated_at=now - timedelta(seconds=interval), worker_seen_at=now)
        retrying_atomic(lambda: rows.bulk_create([row], ignore_conflicts=True))
        state = rows.get(id=1)
    is_possible = state.evaluated_at <= times.latest_possible(now)
    if is_possible and now - state.evaluated_at < timedelta(seconds=interval):
        return None
    worker_seen_at = now if conditions.has_live_worker(now) else min(state.worker_seen_at, now)
    is_first = rows.filter(id=1, evaluated_at=state.evaluated_at)
    if not retrying_atomic(lambda: is_first.update(evaluated_at=now, worker_seen_at=worker_seen_at)):
        return None
    state.evaluated_at, state.worker_seen_at = now, worker_seen_at
    return state
