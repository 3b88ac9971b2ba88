"""Evaluate alerts. ``upkeep`` has one process do it for all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from notifications import times
from notifications.conf import settings
from notifications.contrib.operations.alerts import conditions, episodes
from notifications.contrib.operations.models import AlertState
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.models import Worker


def evaluate(previous: datetime | None = None) -> None:
    """Open an alert for what is wrong now, and close those whose condition is over. Several at once do no harm.

    ``previous`` is when any process did so last. Raises ``django.db.Error``, and ``ImproperlyConfigured`` for a wrong
    limit.
    """
    limits = conditions.read_limits()
    now = database_now()
    state = _update_state(now, previous)
    found = conditions.find_conditions(now, limits, state)
    episodes.record_conditions(found, now)
    episodes.delete_old_alerts(times.now() - settings.RETENTION)


def record_lost_workers(workers: Iterable[Worker], now: datetime) -> None:
    """Store that the leases of workers were lost. Inside the transaction that deletes their rows."""
    name = ", ".join(sorted({str(worker) for worker in workers}))
    AlertState.objects.using(database()).update(lease_lost_at=now, lost_worker=name[:511])


def _update_state(now: datetime, previous: datetime | None) -> AlertState:
    """Return the state, with since when no worker is alive. It is written only when that changes."""
    rows = AlertState.objects.using(database())
    state = rows.filter(id=1).first()
    if state is None:
        retrying_atomic(lambda: rows.bulk_create([AlertState()], ignore_conflicts=True))
        state, previous = rows.get(id=1), None
    # If there is none now, the previous evaluation was the last one that saw one.
    absent_since = min(state.no_worker_since or previous or now, now)
    since = None if conditions.has_live_worker(now) else absent_since
    if since != state.no_worker_since:
        retrying_atomic(lambda: rows.filter(id=1).update(no_worker_since=since))
        state.no_worker_since = since
    return state
